// Package service is what clients may ask of storaged, whatever the front end:
// it turns requests into jobs, by what the catalog knows of pools and volumes. It
// never touches a pool: it has helpers look. It knows no HTTP.
package service

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/catalog"
	"storaged/internal/confine"
	"storaged/internal/events"
	"storaged/internal/metrics"
	"storaged/internal/secret"
	"storaged/internal/store"
	"storaged/internal/supervisor"
)

// Service answers the calls of the front ends. It is safe for concurrent use.
type Service struct {
	config  Settings // as the daemon was started
	started time.Time
	store   *store.Store
	jobs    *supervisor.Supervisor
	hub     *events.Hub
	catalog *catalog.Catalog
	metrics *metrics.Metrics
	secrets *secret.Store
	log     hclog.Logger
	herald  *herald
	untold  func() []string // nil: there are no receivers of notices

	recovered   []int64               // jobs of an earlier daemon, found at start
	confinement confine.Level         // that helpers can have here
	restored    *store.Restoration    // what became of a damaged database; nil: it never was
	copyTrouble atomic.Pointer[error] // of the last copy of the database

	settings atomic.Pointer[Settings] // as last read; of what can change while the daemon runs, these count

	looks    looks
	sights   sights
	secretly sync.Mutex // held while a secret is set or deleted, from the look who needs it on
	labeling sync.Mutex // held from the reading of a job's labels to their writing

	later atomic.Pointer[[]string] // settings that hold from the next start on
}
