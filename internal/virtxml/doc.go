// Package virtxml reads and writes the documents with which libvirt describes storage:
// pools, volumes and capabilities (https://libvirt.org/formatstorage.html,
// https://libvirt.org/formatstoragecaps.html). What is written is what libvirt itself
// would write, to the byte; what is read is read more strictly: no document type, no
// entities but the five of XML, bounded in size, depth and number, and no element twice
// where libvirt would take the first of them. Elements that nobody knows are ignored, as
// libvirt does it. Refusals have libvirt's texts.
package virtxml
