package wipe

import "storaged/internal/diskio/diskiotest"

// What tests of this package use of diskiotest, by short names.
const mib = diskiotest.MiB

var (
	run           = diskiotest.Run
	loopDevice    = diskiotest.LoopDevice
	mountLoop     = diskiotest.MountLoop
	mountTmpfs    = diskiotest.MountTmpfs
	mountAt       = diskiotest.MountAt
	sparse        = diskiotest.Sparse
	onEachFS      = diskiotest.OnEachFS
	create        = diskiotest.Create
	must          = diskiotest.Must
	randomBytes   = diskiotest.RandomBytes
	unwritten     = diskiotest.Unwritten
	writeCanaries = diskiotest.WriteCanaries
	canaries      = diskiotest.Canaries
	thinVolume    = diskiotest.ThinVolume
	sizeOf        = diskiotest.SizeOf
	occupied      = diskiotest.Occupied
)
