package record

import (
	"maps"
	"slices"
	"strings"
	"unicode"
)

// Bounds of what callers may ask for: each is stated here alone, and the REST
// contract repeats it. Sizes are bytes.
const (
	MaxLabels      = 64 // of a job; labels and descriptions are kept with every record
	MaxLabelName   = 128
	MaxLabelValue  = 1024
	MaxDescription = 4096
	MaxKey         = 255  // of idempotency; a uuid has 36
	MaxPage        = 1000 // records in one answer, which both ends can hold
	DefaultPage    = 100  // where nobody says

	// Of the scheduler: far above any use, far below an overflow.
	MaxRunning    = 10_000
	MaxQueued     = 1_000_000
	MaxExceptions = 1_000 // of pools or devices from a limit
)

// Bounds of what pools and volumes are said to have: drivers tell no more, and no more is
// believed of a helper.
const (
	MaxThinPools  = 32  // of a volume group
	MaxFree       = 200 // extents of a pool where volumes can be made
	MaxExtents    = 64  // parts of devices that a volume is made of
	MaxReferences = 200 // files that an image needs
)

// CheckLabels is the rule for the labels of a job.
func CheckLabels(labels map[string]string) error {
	if len(labels) > MaxLabels {
		return Errorf(Invalid, `field "labels": %d are more than %d`, len(labels), MaxLabels)
	}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if err := CheckLabel(name, labels[name]); err != nil {
			return err
		}
	}
	return nil
}

// CheckLabel is the rule for one label.
func CheckLabel(name, value string) error {
	switch {
	case name == "" || len(name) > MaxLabelName || strings.Contains(name, "=") || strings.ContainsFunc(name, unicode.IsControl):
		return Errorf(Invalid, `field "labels": name %.40q is not 1 to %d bytes on a line without "="`, name, MaxLabelName)
	case len(value) > MaxLabelValue || strings.ContainsFunc(value, unicode.IsControl):
		return Errorf(Invalid, `field "labels": value of %.40q is not up to %d bytes on a line`, name, MaxLabelValue)
	}
	return nil
}

// CheckKey is the rule for an idempotency key.
func CheckKey(key string) error {
	if key == "" || len(key) > MaxKey || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return Errorf(Invalid, "idempotency key %.40q is not 1 to %d visible ASCII characters", key, MaxKey)
	}
	return nil
}
