package servers

import "net"

// rawTCP is a connection that writes back what it reads: what the kernel and the
// scheduler cost.
var rawTCP = Contestant{
	Name:           "rawtcp",
	Kind:           Baseline,
	Modes:          []Mode{InHandler},
	JoinsFragments: true,
	Raw:            true,
	Listen:         rawTCPListen,
}

func rawTCPListen(ln net.Listener) error {
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go rawTCPEcho(c)
	}
}

func rawTCPEcho(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}
