package daemon

import "strconv"

// The argv of the helper's tasks, one function a task. Every path is absolute,
// so that none can be taken for a flag.

func createArgv(w work) []string {
	return []string{"allocate", "--target", w.Path, "--target-type", w.Type, "--format", w.Format,
		"--capacity", bytesArg(w.Capacity), "--allocation", bytesArg(w.Allocation)}
}

func cloneArgv(w work) []string {
	return []string{"clone", "--source", w.Path, "--source-type", w.Type,
		"--target", w.TargetPath, "--target-type", w.TargetType,
		"--size", bytesArg(w.Capacity), "--reflink", w.Reflink}
}

func resizeArgv(w work) []string {
	argv := []string{"resize", "--target", w.Path, "--target-type", w.Type, "--capacity", bytesArg(w.Capacity), "--yes"}
	argv = flagArg(argv, w.Shrink, "--shrink")
	return flagArg(argv, w.Allocate, "--allocate")
}

func wipeArgv(w work) []string {
	argv := []string{"wipe", "--target", w.Path, "--target-type", w.Type, "--algorithm", w.Algorithm, "--yes"}
	argv = flagArg(argv, w.Verify, "--verify")
	return flagArg(argv, w.AcceptLimits, "--accept-limits")
}

func deleteArgv(w work) []string {
	argv := []string{"delete", "--target", w.Path, "--target-type", w.Type, "--yes"}
	if w.Algorithm != "" {
		argv = append(argv, "--wipe", w.Algorithm)
	}
	return argv
}

func verifyArgv(w work) []string {
	argv := []string{"verify", "--target", w.Path, "--target-type", w.Type}
	if w.Checksum != "" {
		argv = append(argv, "--checksum", w.Checksum)
	}
	return argv
}

// settleArgv finds out what a job that died left of its target, and removes
// what it had not finished.
func settleArgv(w work) []string {
	if w.TargetName != "" {
		return []string{"settle", "--target", w.TargetPath, "--target-type", w.TargetType}
	}
	return []string{"settle", "--target", w.Path, "--target-type", w.Type}
}

func buildArgv(w work) []string {
	return flagArg(poolArgv("pool-build", w), w.Overwrite, "--overwrite")
}

func startArgv(w work) []string   { return flagArg(poolArgv("pool-start", w), w.Build, "--build") }
func stopArgv(w work) []string    { return poolArgv("pool-stop", w) }
func refreshArgv(w work) []string { return poolArgv("pool-refresh", w) }

func deletePoolArgv(w work) []string {
	return flagArg(poolArgv("pool-delete", w), w.WithVolumes, "--with-volumes")
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
