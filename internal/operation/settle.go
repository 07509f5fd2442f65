package operation

// Settle is what follows the death of a helper: whether it had come to its end
// is found out, and what was unfinished is removed. It is no kind of job, but
// the end of one.
type Settle struct {
	Volume             // that the job was to make or change, or with Pools the pool it was to move volumes to
	Source    *Volume  // of a move; nil: the job was none
	Pools     bool     // Volume and Source are pools
	Snapshot  string   // the job was to make a snapshot of the volume, by that name, or to delete it; "": neither
	With      []string // snapshots, by their files, that the job was to delete with the volume, in that order
	Above     []string // FORMAT:FILE of what stood on a snapshot that the job was to delete
	Format    string   // of an image whose header the job was to change
	Deleted   bool     // the job was to delete the volume, or its snapshot
	Keyed     bool     // the job was to have a new secret open the volume
	Keep      bool     // what is unfinished stays
	Resumable bool     // it stays where a later job can go on with it
	Job       string   // by hand: the job's uuid
}

// NewSettle gives one with the defaults of its task.
func NewSettle() *Settle {
	return &Settle{Volume: Volume{Type: defaultType}, Source: &Volume{Type: defaultType}}
}

// Task is settle.
func (s *Settle) Task() Task {
	t := Task{
		Name:  "settle",
		Usage: "clear up after a helper that was killed",
		Description: "It finds out whether the job had completed its volume, and removes what was unfinished.\n" +
			"Nothing but what carries the job's identifier is touched.",
		Example: "--target vm1.raw --job 01993c1e-8f5e-7cc3-b0a4-5a3a1b0b9c11",
		Flags:   s.Volume.named("target", "target-type", "pool-id"),
	}
	if s.Source != nil {
		t.Flags = append(t.Flags, s.Source.flags("source")...)
	}
	t.Flags = append(t.Flags, imageFormat(&s.Format),
		text("snapshot", &s.Snapshot, "the job was to make the snapshot of that `NAME`, or to delete it"),
		onOff("deleted", &s.Deleted, "the job was to delete the volume: if it is gone, the job had come to its end"),
		Flag{Name: "with-snapshot", Usage: "if the volume is gone, the snapshot in `FILE` beside it is to be deleted too; may be repeated", value: (*list)(&s.With)},
		Flag{Name: "above", Usage: "tell on what the image in that file, `FORMAT:FILE`, beside the volume stands; may be repeated", value: (*list)(&s.Above)},
		onOff("keyed", &s.Keyed, "the job was to have another secret open the volume: if that does, the job had come to its end"),
		onFailure(&s.Keep),
		onOff("resumable", &s.Resumable, "leave what is unfinished where a later job can go on with it; as a job of storaged only"),
		onOff("pools", &s.Pools, "target and source are pools: the job was to evacuate one to the other"),
		text("job", &s.Job, "`UUID` of the job, as in the name .UUID.storaged of what it left"),
	)
	return t
}
