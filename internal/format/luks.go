package format

import "bytes"

const luksMagic = "LUKS\xba\xbe"

// isLUKS1 is true of the first version only, which QEMU opens as an image. The
// second is a matter of the guest, and raw for us as it is for QEMU.
func isLUKS1(s *source) bool { return magic(luksMagic, 0)(s) && s.big16(6) == 1 }

// readLUKS reads a header of LUKS1 (LUKS On-Disk Format Specification 1.2.3).
func readLUKS(h *header) {
	const slots, slotSize, stripes, least = 8, 48, 4000, 592
	payload := uint64(h.big32(104)) * sector
	h.Encryption, h.Compat = "luks", "1"
	for _, at := range []int64{8, 40, 72} {
		if !bytes.Contains(h.at(at, 32), []byte{0}) {
			h.bad("the name of its cipher or hash does not end")
		}
	}
	if payload < least {
		h.bad("its content begins within its header, at %d", payload)
	}
	for i := range int64(slots) {
		at := 208 + i*slotSize
		first, n := uint64(h.big32(at+40))*sector, uint64(h.big32(at+44))*uint64(h.big32(108))
		switch state := h.big32(at); {
		case state != 0x00ac71f3 && state != 0x0000dead:
			h.bad("the state of its key slot %d is not known: %#x", i, state)
		case h.big32(at+44) != stripes || first < least || first+n > payload:
			h.bad("its key slot %d, %d bytes at %d, cannot be", i, n, first)
		}
	}
	if h.size >= 0 {
		if !h.within(0, payload) {
			h.bad("its header of %d bytes does not lie within the file", payload)
		}
		h.Capacity = max(0, h.size-int64(payload))
	}
}
