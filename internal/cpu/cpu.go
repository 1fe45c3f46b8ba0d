// Package cpu reports which instructions the processor has. The assembly of the
// packages mask and utf8 needs them.
package cpu
