// Package supervisor runs jobs: it records them, grants their locks, starts a
// helper process for each, follows its frames, cancels it, and establishes how
// it ended. It knows no storage: what a job means for the catalogue is told by
// a Keeper, what it does by its argv.
package supervisor
