package diskio

import "storaged/internal/diskio/diskiotest"

// What tests of this package use of diskiotest, by short names.
const mib = diskiotest.MiB

var (
	run         = diskiotest.Run
	loopDevice  = diskiotest.LoopDevice
	mountLoop   = diskiotest.MountLoop
	mountTmpfs  = diskiotest.MountTmpfs
	mountAt     = diskiotest.MountAt
	sparse      = diskiotest.Sparse
	onEachFS    = diskiotest.OnEachFS
	create      = diskiotest.Create
	must        = diskiotest.Must
	writeRandom = diskiotest.WriteRandom
	unwritten   = diskiotest.Unwritten
	cacheOf     = diskiotest.CacheOf
	thinVolume  = diskiotest.ThinVolume
	sizeOf      = diskiotest.SizeOf
	occupied    = diskiotest.Occupied
	scratch     = diskiotest.Scratch
	layout      = diskiotest.Layout
	same        = diskiotest.Same
)
