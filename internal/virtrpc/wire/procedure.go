package wire

// Procedure is the number of one in its program.
type Procedure uint32

// Procedures of Remote that have to do with a connection.
const (
	ConnectOpen                    Procedure = 1
	ConnectClose                   Procedure = 2
	ConnectGetType                 Procedure = 3
	ConnectGetVersion              Procedure = 4
	ConnectGetCapabilities         Procedure = 7
	ConnectGetHostname             Procedure = 59
	ConnectSupportsFeature         Procedure = 60
	AuthList                       Procedure = 66
	AuthSASLInit                   Procedure = 67
	AuthSASLStart                  Procedure = 68
	AuthSASLStep                   Procedure = 69
	AuthPolkit                     Procedure = 70
	ConnectGetURI                  Procedure = 110
	ConnectIsSecure                Procedure = 149
	ConnectGetLibVersion           Procedure = 157
	ConnectRegisterCloseCallback   Procedure = 360
	ConnectUnregisterCloseCallback Procedure = 361
	ConnectSetIdentity             Procedure = 419

	// LastProcedure is the last of the version that we are like.
	LastProcedure Procedure = 443
)

// Procedures of Remote that have to do with pools.
const (
	ConnectNumOfStoragePools          Procedure = 71
	ConnectListStoragePools           Procedure = 72
	ConnectNumOfDefinedStoragePools   Procedure = 73
	ConnectListDefinedStoragePools    Procedure = 74
	ConnectFindStoragePoolSources     Procedure = 75
	StoragePoolCreateXML              Procedure = 76
	StoragePoolDefineXML              Procedure = 77
	StoragePoolCreate                 Procedure = 78
	StoragePoolBuild                  Procedure = 79
	StoragePoolDestroy                Procedure = 80
	StoragePoolDelete                 Procedure = 81
	StoragePoolUndefine               Procedure = 82
	StoragePoolRefresh                Procedure = 83
	StoragePoolLookupByName           Procedure = 84
	StoragePoolLookupByUUID           Procedure = 85
	StoragePoolLookupByVolume         Procedure = 86
	StoragePoolGetInfo                Procedure = 87
	StoragePoolGetXMLDesc             Procedure = 88
	StoragePoolGetAutostart           Procedure = 89
	StoragePoolSetAutostart           Procedure = 90
	StoragePoolNumOfVolumes           Procedure = 91
	StoragePoolListVolumes            Procedure = 92
	StoragePoolIsActive               Procedure = 154
	StoragePoolIsPersistent           Procedure = 155
	ConnectListAllStoragePools        Procedure = 281
	StoragePoolListAllVolumes         Procedure = 282
	ConnectStoragePoolEventRegister   Procedure = 368
	ConnectStoragePoolEventDeregister Procedure = 369
	StoragePoolEventLifecycle         Procedure = 370 // a message
	StoragePoolEventRefresh           Procedure = 373 // a message
	StoragePoolLookupByTargetPath     Procedure = 391
	ConnectGetStoragePoolCapabilities Procedure = 403
)

// Procedures of Remote that have to do with volumes.
const (
	StorageVolCreateXML     Procedure = 93
	StorageVolDelete        Procedure = 94
	StorageVolLookupByName  Procedure = 95
	StorageVolLookupByKey   Procedure = 96
	StorageVolLookupByPath  Procedure = 97
	StorageVolGetInfo       Procedure = 98
	StorageVolGetXMLDesc    Procedure = 99
	StorageVolGetPath       Procedure = 100
	StorageVolCreateXMLFrom Procedure = 125
	StorageVolWipe          Procedure = 165
	StorageVolUpload        Procedure = 208 // a stream follows
	StorageVolDownload      Procedure = 209 // a stream follows
	StorageVolWipePattern   Procedure = 259
	StorageVolResize        Procedure = 260
	StorageVolGetInfoFlags  Procedure = 378
)
