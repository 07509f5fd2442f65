package testenv

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Mapped is a device of device-mapper over a whole device, of which a test changes what
// it does.
type Mapped struct {
	t       testing.TB
	name    string
	below   string
	sectors int64 // of 512 bytes
}

// NewMapped makes a device over another, which it passes everything to, until the end of
// the test. It needs the virtual machine.
func NewMapped(t testing.TB, name, below string) *Mapped {
	t.Helper()
	VM(t)
	out, err := exec.Command("blockdev", "--getsz", below).Output()
	if err != nil {
		t.Fatal(err)
	}
	sectors, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	m := &Mapped{t: t, name: name, below: below, sectors: sectors}
	run(t, "dmsetup", "create", name, "--table", m.linear(0, sectors))
	t.Cleanup(func() { run(t, "dmsetup", "remove", "--retry", name) })
	return m
}

// Path is that of the device.
func (m *Mapped) Path() string { return filepath.Join("/dev/mapper", m.name) }

func (m *Mapped) linear(from, sectors int64) string {
	return fmt.Sprintf("%d %d linear %s %d\n", from, sectors, m.below, from)
}

// Suspend has the device answer nothing, whoever asks, until the test ends or calls
// resume.
func (m *Mapped) Suspend() (resume func()) {
	m.t.Helper()
	run(m.t, "dmsetup", "suspend", "--noflush", "--nolockfs", m.name)
	resume = sync.OnceFunc(func() { run(m.t, "dmsetup", "resume", m.name) })
	m.t.Cleanup(resume)
	return resume
}

// FailAt has every access to a part of the device fail, in bytes.
func (m *Mapped) FailAt(offset, length int64) {
	m.t.Helper()
	const sector = 512
	from, to := offset/sector, (offset+length)/sector
	m.load(m.linear(0, from) + fmt.Sprintf("%d %d error\n", from, to-from) + m.linear(to, m.sectors-to))
}

// FailWrites has every write fail; reads are as before.
func (m *Mapped) FailWrites() {
	m.t.Helper()
	const always = 3600 // seconds
	m.load(fmt.Sprintf("0 %d flakey %s 0 0 %d 1 error_writes\n", m.sectors, m.below, always))
}

// Heal has the device pass everything on again.
func (m *Mapped) Heal() {
	m.t.Helper()
	m.load(m.linear(0, m.sectors))
}

// load exchanges what the device does.
func (m *Mapped) load(table string) {
	m.t.Helper()
	run(m.t, "dmsetup", "load", m.name, "--table", strings.TrimSpace(table))
	run(m.t, "dmsetup", "suspend", "--nolockfs", m.name)
	run(m.t, "dmsetup", "resume", m.name)
}
