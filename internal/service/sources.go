package service

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"storaged/internal/catalog"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// findTimeout bounds how long somebody waits for sources: a server that answers at all
// does so in seconds, and who asks may ask again.
const findTimeout = time.Minute

// FindSources has a query helper find storage that pools of a type could be made of.
func (s *Service) FindSources(ctx context.Context, c record.Caller, r contract.SourcesFind) ([]record.Source, error) {
	if err := c.May(ctx, record.DefinePools); err != nil {
		return nil, err
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	o, err := finding(r)
	if err != nil {
		return nil, err
	}
	key, err := json.Marshal(r)
	if err != nil {
		panic("internal error: " + err.Error()) // texts
	}
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	report, _, err := s.jobs.Query(ctx, "sources "+string(key), o.Task().Argv())
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, record.Errorf(record.TimedOut, "sources of pools of type %s were not found within %v", r.Type, findTimeout)
	}
	if err != nil {
		return nil, err
	}
	found := []record.Source{}
	for _, it := range report.Items {
		if it.Source != nil {
			found = append(found, it.Source.Record())
		}
	}
	return found, nil
}

// finding holds what is asked against what the type can do, and wants to know.
func finding(r contract.SourcesFind) (*operation.FindSources, error) {
	can, err := catalog.Capabilities(r.Type)
	if err != nil {
		return nil, err
	}
	switch {
	case can.Finds == nil:
		return nil, record.Errorf(record.Unsupported, "sources of pools of type %s are not looked for", r.Type).WithHint("%s", findable(can))
	case can.Finds.Unavailable != "":
		return nil, record.Errorf(record.Unsupported, "sources of pools of type %s cannot be found: %s", r.Type, can.Finds.Unavailable)
	}
	err = parts{who: "a search for sources of type " + r.Type, needs: can.Finds.Needs, takes: can.Finds.Takes}.check(r.Source)
	return &operation.FindSources{Type: r.Type, Near: r.Source}, err
}

// findable says how a pool is made of what nobody looks for.
func findable(can record.Capabilities) record.Hint {
	create := record.Do("pool.create", "POOL").With("type", can.Type)
	for _, need := range can.Needs {
		create = create.With(need, "…")
	}
	if !slices.Contains(can.Needs, "source_devices") {
		return record.Hintf("%s", create)
	}
	return record.Hintf("lsblk --fs lists the devices of this host and what they carry; then %s", create)
}
