package service

import (
	"encoding/json"
	"errors"
)

// MarshalJSON gives "full", "none" or the number of bytes.
func (a Allocation) MarshalJSON() ([]byte, error) {
	switch {
	case a.Full:
		return []byte(`"full"`), nil
	case a.Bytes == 0:
		return []byte(`"none"`), nil
	}
	return json.Marshal(a.Bytes)
}

// UnmarshalJSON takes what MarshalJSON gives.
func (a *Allocation) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case `"full"`:
		*a = Allocation{Full: true}
		return nil
	case `"none"`:
		*a = Allocation{}
		return nil
	}
	*a = Allocation{}
	if err := json.Unmarshal(b, &a.Bytes); err != nil || a.Bytes < 0 {
		return errors.New(`allocation is "full", "none" or a number of bytes`)
	}
	return nil
}
