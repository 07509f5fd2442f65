package image

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"
)

// HeaderSize is how much of the start of an image Inspect looks at, bytes.
const HeaderSize = 64 << 10

// Unnamed stands for a backing image whose name the header does not show.
const Unnamed = "?"

const (
	maxCapacity = 1 << 61 // bytes; no format can hold more, a larger figure is a lie
	maxBacking  = 1023    // bytes of a backing name, qcow2's limit
	sector      = 512
)

// Header is what the start of an image claims. Nothing in it is to be believed
// of an image that a guest could write.
type Header struct {
	Format   string // QEMU's name for it; raw if nothing else is recognised
	Capacity int64  // bytes the guest sees; 0 where the header does not tell
	Backing  string // the bytes of the backing image's name, Unnamed, or "" without one
	// Data are the names of other files that hold the image's content, as Backing
	// is one: the data file of a qcow2, the extents of a vmdk.
	Data []string
}

// formats are tried in this order. Names are QEMU's, and iso, which libvirt
// tells apart from raw.
var formats = []struct {
	name  string
	magic string
	at    int
	read  func(b []byte, h *Header)
}{
	{"qcow2", "QFI\xfb", 0, readQcow},
	{"qed", "QED\x00", 0, readQED},
	{"vmdk", "KDMV", 0, readVMDKSparse},
	{"vmdk", "COWD", 0, readVMDK3},
	{"vmdk", "# Disk DescriptorFile", 0, readVMDKText},
	{"vdi", "\x7f\x10\xda\xbe", 64, readVDI},
	{"vhdx", "vhdxfile", 0, readNothing},
	{"vpc", "conectix", 0, readVPC},
	{"iso", "CD001", 32769, readNothing},
}

// Inspect tells the format of the image that begins with b, of which it reads
// HeaderSize bytes at most. It never fails: what it does not recognise is raw.
func Inspect(b []byte) Header {
	b = b[:min(len(b), HeaderSize)]
	for _, f := range formats {
		if bytes.HasPrefix(from(b, f.at), []byte(f.magic)) {
			h := Header{Format: f.name}
			f.read(b, &h)
			return h
		}
	}
	return Header{Format: "raw"}
}

// readNothing is for formats whose size is elsewhere: vhdx has it behind the
// first 64 KiB, iso is as large as its file.
func readNothing([]byte, *Header) {}

// readQcow reads versions 1 to 3 (QEMU docs/interop/qcow2.txt).
func readQcow(b []byte, h *Header) {
	if big32(b, 4) == 1 {
		h.Format = "qcow"
	}
	h.Capacity = capacity(big64(b, 24), 1)
	if off := big64(b, 8); off != 0 {
		h.Backing = nameAt(b, off, uint64(big32(b, 16)))
	}
	const dataFile = 1 << 2 // of the incompatible features
	if big32(b, 4) >= 3 && big64(b, 72)&dataFile != 0 {
		h.Data = []string{qcowDataFile(b)}
	}
}

// qcowDataFile finds the name of the external data file in the extensions of a
// header of version 3. Whoever opens the image may have to name it.
func qcowDataFile(b []byte) string {
	const (
		name = 0x44415441
		head = 8 // type and length
	)
	for at := uint64(big32(b, 100)); at < uint64(len(b)); {
		kind, n := big32(b, int(at)), uint64(big32(b, int(at)+4))
		switch kind {
		case name:
			return nameAt(b, at+head, n)
		case 0: // the last one
			return Unnamed
		}
		at += head + (n+7)/8*8
	}
	return Unnamed
}

// readQED reads a QED header (QEMU docs/interop/qed_spec.txt).
func readQED(b []byte, h *Header) {
	const hasBacking = 1
	h.Capacity = capacity(little64(b, 48), 1)
	if little64(b, 16)&hasBacking != 0 {
		h.Backing = nameAt(b, uint64(little32(b, 56)), uint64(little32(b, 60)))
	}
}

// readVMDKSparse reads a hosted sparse extent with its embedded descriptor
// (VMware Virtual Disk Format 1.1).
func readVMDKSparse(b []byte, h *Header) {
	h.Capacity = capacity(little64(b, 12), sector)
	at := little64(b, 28)
	if at == 0 || at >= HeaderSize/sector {
		return
	}
	text := from(b, int(at)*sector)
	h.Backing = vmdkParent(text)
	if little64(b, 12) == 0 { // then there is nothing but the descriptor, as QEMU has it
		h.readExtents(text)
	}
}

// readVMDK3 reads an ESX "copy on write disk".
func readVMDK3(b []byte, h *Header) {
	h.Capacity = capacity(uint64(little32(b, 12)), sector)
}

// readVMDKText reads a descriptor that stands alone; its extents are other
// files, which nobody here opens.
func readVMDKText(b []byte, h *Header) {
	h.Backing = vmdkParent(b)
	h.readExtents(b)
}

// readExtents reads the lines of a descriptor that tell the extents:
//
//	RW 8192 FLAT "disk-flat.vmdk" 0
func (h *Header) readExtents(text []byte) {
	var sectors uint64
	sound := true
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "RW" && f[0] != "RDONLY" && f[0] != "NOACCESS" {
			continue
		}
		n, err := strconv.ParseUint(f[1], 10, 40)
		sound = sound && err == nil
		sectors += n
		if name := extentName(line); name != "" {
			h.Data = append(h.Data, name)
		}
	}
	if sound { // else the sum means nothing
		h.Capacity = capacity(sectors, sector)
	}
}

// extentName is the name of an extent's file, "" where it needs none: an extent
// of zeros.
func extentName(line string) string {
	_, rest, ok := strings.Cut(line, `"`)
	if !ok {
		return ""
	}
	name, _, ok := strings.Cut(rest, `"`)
	if !ok || name == "" || len(name) > maxBacking {
		return Unnamed
	}
	return name
}

// vmdkParent finds the parent's name in the text of a descriptor.
func vmdkParent(text []byte) string {
	_, rest, ok := bytes.Cut(text, []byte(`parentFileNameHint="`))
	if !ok {
		return ""
	}
	name, _, ok := bytes.Cut(rest, []byte(`"`))
	if !ok || len(name) == 0 || len(name) > maxBacking {
		return Unnamed
	}
	return string(name)
}

// readVDI reads a VirtualBox header (QEMU block/vdi.c).
func readVDI(b []byte, h *Header) {
	const differencing = 4
	h.Capacity = capacity(little64(b, 368), 1)
	if little32(b, 76) == differencing {
		h.Backing = Unnamed
	}
}

// readVPC reads the footer's copy at the start of a dynamic VHD (Virtual Hard
// Disk Image Format Specification 1.0). A fixed VHD has its footer at the end
// only, and is raw for us as it is for QEMU.
func readVPC(b []byte, h *Header) {
	const differencing = 4
	h.Capacity = capacity(big64(b, 48), 1)
	if big32(b, 60) == differencing {
		h.Backing = Unnamed
	}
}

// capacity is n units in bytes, 0 if that is more than there can be.
func capacity(n, unit uint64) int64 {
	if n > maxCapacity/unit {
		return 0
	}
	return int64(n * unit)
}

// nameAt is the text of n bytes at off, Unnamed if it is not all there.
func nameAt(b []byte, off, n uint64) string {
	if n == 0 || n > maxBacking || off > uint64(len(b)) || n > uint64(len(b))-off {
		return Unnamed
	}
	return string(b[off : off+n])
}

// from is b from the offset on, empty behind its end.
func from(b []byte, at int) []byte { return b[min(at, len(b)):] }

// The fields of a header that is too short are 0.

func field(b []byte, at, size int) []byte {
	var v [8]byte
	copy(v[:size], from(b, at))
	return v[:size]
}

func big32(b []byte, at int) uint32    { return binary.BigEndian.Uint32(field(b, at, 4)) }
func big64(b []byte, at int) uint64    { return binary.BigEndian.Uint64(field(b, at, 8)) }
func little32(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(field(b, at, 4)) }
func little64(b []byte, at int) uint64 { return binary.LittleEndian.Uint64(field(b, at, 8)) }
