package daemon

import (
	"strconv"

	"storaged/internal/api"
	"storaged/internal/backends"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// The argv of the helper's tasks, one function a task. Every path is absolute,
// so that none can be taken for a flag.

func createArgv(w work) []string {
	if w.Form != "" {
		argv := append(volumeArgv("allocate", w), "--allocation", bytesArg(w.Allocation))
		if w.Capacity > 0 {
			argv = append(argv, "--capacity", bytesArg(w.Capacity))
		}
		return keepArg(contentArgs(argv, w), w)
	}
	return keepArg(append(volumeArgv("allocate", w), "--format", w.Format,
		"--capacity", bytesArg(w.Capacity), "--allocation", bytesArg(w.Allocation)), w)
}

// volumeArgv is a task on the volume of the work.
func volumeArgv(task string, w work) []string {
	return idArg([]string{task, "--target", w.Path, "--target-type", w.Type}, "--pool-id", w.PoolID)
}

// idArg adds the identity of a pool that has been read before.
func idArg(argv []string, name string, id backends.PoolID) []string {
	if id.Inode == 0 {
		return argv
	}
	return append(argv, name, id.String())
}

func cloneArgv(w work) []string {
	argv := idArg([]string{"clone", "--source", w.Path, "--source-type", w.Type}, "--source-pool-id", w.PoolID)
	argv = idArg(append(argv, "--target", w.TargetPath, "--target-type", w.TargetType), "--pool-id", w.TargetID)
	argv = promiseArg(append(argv, "--size", bytesArg(w.Capacity), "--reflink", w.Reflink), w)
	return keepArg(flagArg(argv, w.Sparse, "--sparse"), w)
}

func moveArgv(w work) []string {
	argv := idArg([]string{"move", "--source", w.Path, "--source-type", w.Type}, "--source-pool-id", w.PoolID)
	argv = idArg(append(argv, "--target", w.TargetPath, "--target-type", w.TargetType), "--pool-id", w.TargetID)
	return promiseArg(argv, w)
}

// promiseArg says what a new volume shall have allocated beside its data.
func promiseArg(argv []string, w work) []string {
	if w.Promise == 0 {
		return argv
	}
	return append(argv, "--allocation", bytesArg(w.Promise))
}

func uploadArgv(w work) []string {
	argv := append(volumeArgv("upload", w), "--yes", "--offset", bytesArg(w.Offset))
	if w.Skipped > 0 {
		argv = append(argv, "--skipped", bytesArg(w.Skipped))
	}
	return contentArgs(argv, w)
}

// contentArgs say where a content comes from and what must hold of it.
func contentArgs(argv []string, w work) []string {
	argv = handedArgs(append(argv, "--format", w.Format), "--source", w)
	if w.AsFormat != "" {
		argv = append(argv, "--as-format", w.AsFormat)
	}
	return flagArg(argv, w.DetectZeros, "--detect-zeros")
}

func downloadArgv(w work) []string {
	argv := idArg([]string{"download", "--volume", w.Path, "--volume-type", w.Type}, "--pool-id", w.PoolID)
	argv = handedArgs(append(argv, "--offset", bytesArg(w.Offset)), "--target", w)
	if w.Format == record.FormatRaw {
		argv = append(argv, "--size", bytesArg(w.Capacity)) // of other formats nobody here knows the file's
	}
	return argv
}

// handedArgs name the descriptor that the helper is handed.
func handedArgs(argv []string, flag string, w work) []string {
	argv = append(argv, flag, "fd:"+strconv.Itoa(ipc.DataFD))
	if w.Form != api.FileData {
		argv = append(argv, "--stream", w.Form)
	}
	if w.Length != nil {
		argv = append(argv, "--length", bytesArg(*w.Length))
	}
	if w.Checksum != "" {
		argv = append(argv, "--checksum", w.Checksum)
	}
	return argv
}

func keepArg(argv []string, w work) []string {
	if !w.Keep {
		return argv
	}
	return append(argv, "--on-failure", string(record.KeepOnFailure))
}

func resizeArgv(w work) []string {
	argv := append(volumeArgv("resize", w), "--capacity", bytesArg(w.Capacity), "--yes")
	argv = flagArg(argv, w.Shrink, "--shrink")
	return flagArg(argv, w.Allocate, "--allocate")
}

func wipeArgv(w work) []string {
	argv := append(volumeArgv("wipe", w), "--algorithm", w.Algorithm, "--yes")
	argv = flagArg(argv, w.Verify, "--verify")
	return flagArg(argv, w.AcceptLimits, "--accept-limits")
}

func deleteArgv(w work) []string {
	argv := append(volumeArgv("delete", w), "--yes")
	if w.Algorithm != "" {
		argv = append(argv, "--wipe", w.Algorithm)
	}
	return argv
}

func verifyArgv(w work) []string {
	argv := volumeArgv("verify", w)
	switch {
	case w.Checksum != "":
		argv = append(argv, "--checksum", w.Checksum)
	case w.Recorded != "":
		argv = append(argv, "--checksum", w.Recorded, "--recorded-change", strconv.FormatInt(w.SummedNS, 10))
	}
	return argv
}

// settleMoveArgv also finds out what became of the source.
func settleMoveArgv(w work) []string {
	id := w.PoolID
	id.Device = 0
	return idArg(append(settleArgv(w), "--source", w.Path, "--source-type", w.Type), "--source-pool-id", id)
}

// settleArgv finds out what a job that died left of its target, and removes
// what it had not finished. It may have to do so after a reboot, which can give
// a device another number.
func settleArgv(w work) []string {
	path, poolType, id := w.Path, w.Type, w.PoolID
	if w.TargetName != "" {
		path, poolType, id = w.TargetPath, w.TargetType, w.TargetID
	}
	id.Device = 0
	argv := keepArg([]string{"settle", "--target", path, "--target-type", poolType}, w)
	return idArg(flagArg(argv, w.Kind == record.VolumeDelete, "--deleted"), "--pool-id", id)
}

func buildArgv(w work) []string {
	return flagArg(poolArgv("pool-build", w), w.Overwrite, "--overwrite")
}

func startArgv(w work) []string   { return flagArg(poolArgv("pool-start", w), w.Build, "--build") }
func stopArgv(w work) []string    { return poolArgv("pool-stop", w) }
func refreshArgv(w work) []string { return idArg(poolArgv("pool-refresh", w), "--pool-id", w.PoolID) }

func spaceArgv(w work) []string { return idArg(poolArgv("pool-space", w), "--pool-id", w.PoolID) }

func evacuateArgv(w work) []string {
	argv := idArg(poolArgv("evacuate", w), "--pool-id", w.PoolID)
	argv = idArg(append(argv, "--to", w.TargetPath, "--to-type", w.TargetType), "--to-pool-id", w.TargetID)
	if w.Only != "" {
		argv = append(argv, "--only="+w.Only)
	}
	for _, name := range w.stays {
		argv = append(argv, "--stays="+name)
	}
	argv = flagArg(flagArg(argv, w.SkipBusy, "--skip-busy"), w.KeepSource, "--keep-source")
	if w.OnError == onErrorStop {
		argv = append(argv, "--on-error", w.OnError)
	}
	return argv
}

// settleEvacuateArgv finds out about the volume between the pools.
func settleEvacuateArgv(w work) []string {
	from, to := w.PoolID, w.TargetID
	from.Device, to.Device = 0, 0
	argv := idArg([]string{"settle", "--pools", "--source", w.Path, "--source-type", w.Type}, "--source-pool-id", from)
	return idArg(append(argv, "--target", w.TargetPath, "--target-type", w.TargetType), "--pool-id", to)
}

func verifyPoolArgv(w work) []string { return idArg(poolArgv("pool-verify", w), "--pool-id", w.PoolID) }

func deletePoolArgv(w work) []string {
	id := w.PoolID
	id.Device = 0 // of a pool that was started before a reboot, maybe
	argv := idArg(flagArg(poolArgv("pool-delete", w), w.WithVolumes, "--with-volumes"), "--pool-id", id)
	for _, other := range w.others {
		argv = idArg(argv, "--other", other)
	}
	return argv
}

func poolArgv(task string, w work) []string {
	return []string{task, "--type", w.Type, "--target", w.Path}
}

func flagArg(argv []string, set bool, name string) []string {
	if set {
		return append(argv, name)
	}
	return argv
}

func bytesArg(n int64) string { return strconv.FormatInt(n, 10) }
