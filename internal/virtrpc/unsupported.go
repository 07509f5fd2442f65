package virtrpc

import (
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

// unsupported are procedures that clients call although nobody promised them, and go on
// when they are refused. They are not about storage.
func unsupported() (rows []procedure) {
	for number, name := range map[wire.Procedure]string{
		4:   "virConnectGetVersion",
		6:   "virNodeGetInfo",
		51:  "virConnectNumOfDomains",
		52:  "virConnectNumOfNetworks",
		57:  "virConnectListDefinedDomains",
		59:  "virConnectGetHostname",
		105: "virConnectDomainEventRegister",
		106: "virConnectDomainEventDeregister",
		139: "virConnectNumOfSecrets",
		167: "virConnectDomainEventRegisterAny",
		168: "virConnectDomainEventDeregisterAny",
		203: "virConnectGetSysinfo",
		273: "virConnectListAllDomains",
		283: "virConnectListAllNetworks",
		287: "virConnectListAllSecrets",
		313: "virConnectNetworkEventRegisterAny",
		314: "virConnectNetworkEventDeregisterAny",
		316: "virConnectDomainEventRegisterAny",
		317: "virConnectDomainEventDeregisterAny",
		374: "virConnectNodeDeviceEventRegisterAny",
		375: "virConnectNodeDeviceEventDeregisterAny",
		380: "virConnectSecretEventRegisterAny",
		381: "virConnectSecretEventDeregisterAny",
	} {
		rows = append(rows, procedure{number, name, opened, handler{do: refuseUnsupported}})
	}
	return rows
}

func refuseUnsupported(c *call, _ *xdr.Decoder) (xdr.Value, error) {
	return nil, wire.Failf(wire.FromDomain, wire.NoSupport, "%s", c.procedure.name)
}
