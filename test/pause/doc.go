// Package pause tests a server whose process is paused, as a container or a virtual machine is.
package pause
