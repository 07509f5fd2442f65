package rest

// The media types that the server alone speaks.
const (
	patchType   = "application/merge-patch+json"
	logType     = "text/plain; charset=utf-8"
	yamlType    = "application/yaml"
	metricsType = "text/plain; version=0.0.4; charset=utf-8"
)
