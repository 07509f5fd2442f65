package task

import (
	"errors"
	"testing"

	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// Who is refused is told what there is of the volume now, and of nothing else.
func TestRefusedUploadSaysWhatIsLeftOfTheVolume(t *testing.T) {
	const begun = `"/p/v" has the beginning of it and is incomplete: upload a content that is right, from its start`
	const all = `"/p/v" has all of it and is incomplete: upload a content that has the checksum, from its start`
	for _, c := range []struct {
		err     error
		touched bool
		skipped int64
		hint    string
	}{
		{longer(1), false, 0, "nothing was written"},
		{longer(1), false, 1, "nothing more was written"},
		{longer(1), true, 0, begun},
		{tooLarge(into{}, "the content is longer"), true, 1, begun},
		{checksum{record.CRC32C, "crc32c:00000000"}.judge(new(helper.Run), []byte{1}), true, 0, all},
		{ipc.Errorf(record.Changed, "the file was changed"), true, 0, ""},
		{ipc.Errorf(record.Invalid, "no image").WithHint("--as raw"), true, 0, "--as raw"},
	} {
		w := upload{content: &content{contentSpec: contentSpec{skipped: c.skipped}, touched: c.touched}}
		w.at = &helper.Volume{Location: helper.Location{Path: "/p/v"}}
		if e, ok := errors.AsType[*ipc.Error](w.left(c.err)); !ok || e.Hint != c.hint {
			t.Errorf("%v (touched: %t, skipped: %d): the hint is %q, want %q", c.err, c.touched, c.skipped, e.Hint, c.hint)
		}
	}
}
