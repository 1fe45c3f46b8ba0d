package websocket

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// SameOrigin lets in the requests of pages that come from the same origin as
// the WebSocket, and those of clients that are no browser. It is the default of
// [AcceptConnection].
//
// It is there because browsers let any page open a WebSocket to any server, and
// send the cookies of that server along: without a check, a page on
// evil.example acts in the name of its visitor (cross-site WebSocket hijacking).
//
// These headers decide, in this order:
//
//   - Several Origin headers: refused. No browser sends them.
//   - Sec-Fetch-Site: same-origin lets the request in whatever its Origin and
//     Host say, so that a proxy which rewrites Host does no harm. Browsers that
//     send the header let no script set it. Any other value leaves the decision to
//     Origin, which no script can set either.
//   - No Origin: not a browser, let in, unless Sec-Fetch-Site says otherwise.
//     Browsers send an Origin with every handshake.
//   - Origin: let in if its host and port are those of the Host header.
//     Upper and lower case are the same; a port that is left out is that of the
//     Origin's scheme, 80 or 443. "null", schemes other than http and https,
//     and whatever else is not scheme://host or scheme://host:port is refused.
//
// Host has no scheme, so where only Origin and Host are there to go by, a page
// of http://app.example is let in on https://app.example. HTTP Strict Transport
// Security keeps browsers from ever loading that page.
//
// A client that is no browser can send any header it likes. Origin policies
// protect the users of browsers; they do not replace authentication.
func SameOrigin(r *http.Request) bool {
	origins := r.Header["Origin"]
	if len(origins) > 1 {
		return false
	}
	sites := r.Header["Sec-Fetch-Site"]
	if len(sites) == 1 && sites[0] == "same-origin" {
		return true
	}
	if len(origins) == 0 {
		return len(sites) == 0 || len(sites) == 1 && sites[0] == "none"
	}
	return isHost(origins[0], r.Host)
}

// AnyOrigin lets in every request: any page that a visitor opens can then use
// the WebSocket in the visitor's name. It is for endpoints that are public, or
// that authenticate by something that the browser does not send by itself, such
// as a token in the first message.
func AnyOrigin(r *http.Request) bool { return true }

// AllowOrigins returns a policy for [AcceptConnection] that lets in what
// [SameOrigin] does, and the pages of the origins that match one of the
// patterns:
//
//	https://app.example.com       this scheme, host and port (443, as none is given)
//	https://app.example.com:8443  this scheme, host and port
//	https://*.example.com         every subdomain, at any depth; not example.com itself
//	app.example.com               http://app.example.com and https://app.example.com
//	*.example.com:8443            both schemes, every subdomain, this port
//
// A pattern without a port matches the default port of the scheme, 80 or 443. One
// without a scheme also lets in pages that came over plain http, which everybody
// on their way could have changed.
//
// The Origin header decides. A request with several, or with one that is not
// scheme://host or scheme://host:port with the scheme http or https, matches no
// pattern. What happens to a request without one is up to SameOrigin.
//
// AllowOrigins panics if a pattern is invalid. Every origin is not a pattern but
// [AnyOrigin]. International domain names are written as browsers send them, in
// their ASCII form (xn--...).
func AllowOrigins(patterns ...string) func(*http.Request) bool {
	allowed := make([]originPattern, len(patterns))
	for i, pattern := range patterns {
		allowed[i] = mustParsePattern(pattern)
	}
	return func(r *http.Request) bool {
		return SameOrigin(r) || matchesAny(allowed, r.Header["Origin"])
	}
}

func matchesAny(allowed []originPattern, origins []string) bool {
	if len(origins) != 1 {
		return false
	}
	o, ok := parseOrigin(origins[0])
	return ok && slices.ContainsFunc(allowed, func(p originPattern) bool { return p.matches(o) })
}

// isHost reports whether a page of this Origin header comes from the host and
// port of the Host header.
func isHost(originHeader, hostHeader string) bool {
	o, ok := parseOrigin(originHeader)
	if !ok {
		return false
	}
	host, port, ok := parseHost(hostHeader)
	return ok && o.host == host && o.hasPort(port)
}

// denial says why an origin policy refused r, to whoever reads the answer to it.
// A policy tells no reasons, so this one is found by holding r against the
// default.
func denial(r *http.Request) string {
	if SameOrigin(r) {
		return fmt.Sprintf("this request is not allowed to open a WebSocket on %s: the server's own rules refuse it", quote(r.Host))
	}
	who := describe("Origin", r.Header["Origin"])
	if sites := r.Header["Sec-Fetch-Site"]; len(sites) > 0 {
		who += " with " + describe("Sec-Fetch-Site", sites)
	}
	return fmt.Sprintf("%s is not allowed to open a WebSocket on %s: connect from a page of the same origin, or have this one allowed there", who, quote(r.Host))
}

// origin is what an Origin header names, in lower case and with the port that
// its scheme implies.
type origin struct {
	scheme, host string
	port         uint16
}

// parseOrigin reads the serialization of RFC 6454 section 6.2 as browsers send
// it. It is stricter than url.Parse: there is nothing in it but the three parts.
func parseOrigin(s string) (o origin, ok bool) {
	scheme, authority, ok := strings.Cut(s, "://")
	if !ok {
		return origin{}, false
	}
	o.scheme = strings.ToLower(scheme)
	if defaultPort(o.scheme) == 0 {
		return origin{}, false
	}
	if o.host, o.port, ok = parseHost(authority); !ok {
		return origin{}, false
	}
	if o.port == 0 {
		o.port = defaultPort(o.scheme)
	}
	return o, true
}

// hasPort reports whether port, 0 for none given, is that of o.
func (o origin) hasPort(port uint16) bool {
	if port == 0 {
		port = defaultPort(o.scheme)
	}
	return o.port == port
}

// defaultPort returns 0 for a scheme that no page is loaded with that could be
// of the same origin as a WebSocket.
func defaultPort(scheme string) uint16 {
	switch scheme {
	case "http":
		return 80
	case "https":
		return 443
	}
	return 0
}

// parseHost splits host[:port] and brings the host into the form in which two
// equal ones are the same string. The port is 0 if there is none.
func parseHost(s string) (host string, port uint16, ok bool) {
	host = s
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		host = s[:i]
		n, err := strconv.ParseUint(s[i+1:], 10, 16)
		if err != nil || s[i+1] == '0' { // no origin has port 0, or a zero in front
			return "", 0, false
		}
		port = uint16(n)
	}
	if strings.HasPrefix(host, "[") {
		host, ok = parseIPv6(host)
		return host, port, ok
	}
	return strings.ToLower(host), port, isHostname(host)
}

// parseIPv6 reads an address in brackets. One address has many spellings, and
// an Origin header does not always have the one that people write.
func parseIPv6(s string) (host string, ok bool) {
	inner, ok := strings.CutSuffix(s[1:], "]")
	if !ok {
		return "", false
	}
	addr, err := netip.ParseAddr(inner)
	if err != nil || !addr.Is6() || addr.Zone() != "" {
		return "", false
	}
	return "[" + addr.String() + "]", true
}

// isHostname reports whether s is made of labels as host names have them: no
// empty one, so that nothing hides between two dots, but for the root behind a
// trailing dot. That one is kept: to browsers app.example. is another host.
func isHostname(s string) bool {
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" {
			return false
		}
		for i := range len(label) {
			if b := label[i]; !isAlphanumeric(b) && b != '-' && b != '_' {
				return false
			}
		}
	}
	return true
}

// originPattern is one pattern of AllowOrigins.
type originPattern struct {
	scheme   string // "" for http and https
	host     string
	wildcard bool   // the subdomains of host
	port     uint16 // 0 for the default of the scheme
}

func (p originPattern) matches(o origin) bool {
	if p.scheme != "" && p.scheme != o.scheme || !o.hasPort(p.port) {
		return false
	}
	if !p.wildcard {
		return o.host == p.host
	}
	subdomain, ok := strings.CutSuffix(o.host, p.host)
	return ok && strings.HasSuffix(subdomain, ".")
}

// mustParsePattern panics on an invalid pattern, as http.ServeMux does: it is a
// mistake in the program, and would otherwise lock out the users it was meant for.
func mustParsePattern(s string) originPattern {
	if s == "*" {
		panic(`websocket: AllowOrigins("*"): use AnyOrigin to accept every origin`)
	}
	p, ok := parsePattern(s)
	if !ok {
		panic(fmt.Sprintf("websocket: AllowOrigins(%q): want scheme://host[:port] or host[:port], the scheme http or https, the host with * as its first label for all subdomains", s))
	}
	return p
}

func parsePattern(s string) (p originPattern, ok bool) {
	authority := s
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		p.scheme, authority = strings.ToLower(scheme), rest
		if defaultPort(p.scheme) == 0 {
			return originPattern{}, false
		}
	}
	authority, p.wildcard = strings.CutPrefix(authority, "*.")
	p.host, p.port, ok = parseHost(authority)
	if p.wildcard && isAddress(p.host) {
		return originPattern{}, false
	}
	// "null" is the Origin of any sandboxed page. It names no host, and is not
	// to look as if it could be let in like one.
	return p, ok && s != "null"
}

// isAddress reports whether host, or what it is the end of, is an IP address
// rather than a name: those have no subdomains.
func isAddress(host string) bool {
	lastLabel := host[strings.LastIndexByte(host, '.')+1:]
	return strings.HasPrefix(host, "[") || strings.Trim(lastLabel, "0123456789") == ""
}
