package service

import (
	"fmt"
	"strconv"

	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// operation gives what the job is to do, of which everything follows that needs
// no catalogue.
func (w work) operation() operation.Operation {
	switch w.Kind {
	case record.VolumeCreate:
		allocation := w.Allocation
		return &operation.Create{Volume: w.volume(), Content: w.content(), Capacity: w.Capacity, Allocation: &allocation, Keep: w.Keep}
	case record.VolumeClone:
		return &operation.Clone{
			Volume: w.volume(), Into: w.destination(), Format: w.Format, Capacity: w.Capacity, Allocation: w.Allocation,
			Promise: w.promised(), Reflink: w.Reflink, Sparse: w.Sparse, Keep: w.Keep,
		}
	case record.VolumeMove:
		return &operation.Move{Volume: w.volume(), Into: w.destination(), Format: w.Format, Allocation: w.Allocation, Promise: w.promised()}
	case record.VolumeResize:
		return &operation.Resize{
			Volume: w.volume(), Format: w.Format, Capacity: w.Capacity, Allocation: w.Allocation, Shrink: w.Shrink, Allocate: w.Allocate,
		}
	case record.VolumeWipe:
		return &operation.Wipe{Volume: w.volume(), Capacity: w.Capacity, Algorithm: w.Algorithm, Verify: w.Verify, AcceptLimits: w.AcceptLimits}
	case record.VolumeTrim:
		return &operation.Trim{
			Volume: w.volume(), Capacity: w.Capacity, GiveUpAllocation: w.GiveUpAllocation, Recorded: w.Recorded, SummedNS: w.SummedNS,
		}
	case record.VolumeDelete:
		return &operation.Delete{Volume: w.volume(), Capacity: w.Capacity, Algorithm: w.Algorithm, AcceptLimits: w.AcceptLimits}
	case record.VolumeUpload:
		return &operation.Upload{
			Volume: w.volume(), Content: w.content(), Capacity: w.Capacity, Offset: w.Offset, Skipped: w.Skipped, Continues: w.Continues, Beginning: w.Beginning,
		}
	case record.VolumeDownload:
		return w.download()
	case record.VolumeVerify:
		return &operation.Verify{Volume: w.volume(), Capacity: w.Capacity, Checksum: w.Checksum, Recorded: w.Recorded, SummedNS: w.SummedNS}
	}
	return w.onPool()
}

// onPool is operation for a job on a pool.
func (w work) onPool() operation.Operation {
	on := operation.OnPool{Volume: w.volume()}
	switch w.Kind {
	case record.PoolBuild:
		return &operation.PoolBuild{OnPool: on, Overwrite: w.Overwrite}
	case record.PoolStart:
		on.PoolID = lasting(w.Type, w.PoolID)
		return &operation.PoolStart{OnPool: on, Build: w.Build}
	case record.PoolStop:
		return &operation.PoolStop{OnPool: on}
	case record.PoolRefresh:
		return &operation.PoolRefresh{OnPool: on, Discard: w.Discard}
	case record.PoolVerify:
		return &operation.PoolVerify{OnPool: on, Capacity: w.Capacity}
	case record.PoolEvacuate:
		return &operation.Evacuate{
			OnPool: on, Into: w.destination(), Capacity: w.Capacity, Allocation: w.Allocation, Names: w.Names, Only: w.Only,
			SkipBusy: w.SkipBusy, KeepSource: w.KeepSource, OnError: w.OnError, Stays: w.stays,
		}
	case record.PoolDelete:
		o := &operation.PoolDelete{OnPool: on, WithVolumes: w.WithVolumes}
		o.Others = w.others
		o.PoolID = lasting(w.Type, w.PoolID)
		return o
	}
	panic(fmt.Sprintf("internal error: no such kind of job: %q", w.Kind))
}

// settle is the task that settles the job after a death of its helper; nil:
// there is nothing to settle. It may have to be done after a reboot, which can
// give a device another number.
func (w work) settle() []string {
	w.PoolID, w.TargetID = lasting(w.Type, w.PoolID), lasting(w.TargetType, w.TargetID)
	s := w.operation().Settle()
	if s == nil {
		return nil
	}
	return s.Task().Argv()
}

func (w work) volume() operation.Volume {
	return operation.Volume{Pool: w.Pool, Name: w.Volume, Type: w.Type, Path: w.Path, PoolID: w.PoolID, ID: w.VolumeID}
}

func (w work) destination() operation.Into {
	return operation.Into{Target: operation.Target{
		Pool: w.TargetPool, Name: w.TargetName, Type: w.TargetType, Path: w.TargetPath, PoolID: w.TargetID,
	}}
}

// promised is what a copy shall have allocated beside its data.
func (w work) promised() *int64 {
	if w.Promise == 0 {
		return nil
	}
	return &w.Promise
}

func (w work) content() operation.Content {
	c := operation.Content{Format: w.Format}
	if w.Form != "" {
		c.From, c.Form, c.Length, c.Checksum = operation.Descriptor(ipc.DataFD), w.Form, w.Length, w.Checksum
		c.AsFormat, c.DetectZeros, c.Dense = w.AsFormat, w.DetectZeros, w.Dense
	}
	return c
}

func (w work) download() operation.Operation {
	o := &operation.Download{
		Volume: w.volume(), To: operation.Descriptor(ipc.DataFD), Form: w.Form, Format: w.Format, Capacity: w.Capacity,
		Offset: w.Offset, Length: w.Length, Checksum: w.Checksum,
	}
	if w.Format == record.FormatRaw {
		o.Size = &o.Capacity // of other formats nobody here knows the file's
	}
	return o
}

func bytesArg(n int64) string { return strconv.FormatInt(n, 10) }
