package servers

import "net"

// rawTCP writes back the bytes that it reads, without WebSocket. It shows the cost of the
// kernel and the scheduler.
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
