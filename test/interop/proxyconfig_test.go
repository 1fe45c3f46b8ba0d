package interop

// The templates of the proxies' configurations. Their fields are those of setup.

// nginxHead begins each configuration of nginx, up to the settings of the servers.
const nginxHead = `
daemon off;
master_process off; # the master process would need root
pid {{.Dir}}/nginx.pid;
error_log stderr error;
events { worker_connections 1000; }
http {
	access_log off;
	client_body_temp_path {{.Dir}}/body;
	proxy_temp_path {{.Dir}}/proxy;
	fastcgi_temp_path {{.Dir}}/fastcgi;
	uwsgi_temp_path {{.Dir}}/uwsgi;
	scgi_temp_path {{.Dir}}/scgi;
`

const nginxConfig = nginxHead + `
	ssl_certificate {{.Certificate}};
	ssl_certificate_key {{.Certificate}};

	server {
		listen {{.Plain}};
		listen {{.TLS}} ssl http2;
		location / {
			proxy_pass http://{{.Backend}};
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection "upgrade";
			proxy_set_header Host $http_host;
		}
		location /default/ {
			proxy_pass http://{{.Backend}};
		}
		location /without-upgrade/ {
			proxy_pass http://{{.Backend}};
			proxy_http_version 1.1;
		}
		location /without-host/ {
			proxy_pass http://{{.Backend}};
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection "upgrade";
		}
	}
	server {
		listen {{.Short}};
		listen {{.ShortTLS}} ssl http2;
		location / {
			proxy_pass http://{{.Backend}};
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection "upgrade";
			proxy_set_header Host $http_host;
			proxy_read_timeout {{.IdleTimeout}};
			proxy_send_timeout {{.IdleTimeout}};
		}
	}
}
`

// nginxUnixConfig reaches the backend over a Unix socket.
const nginxUnixConfig = nginxHead + `

	server {
		listen {{.Plain}};
		location / {
			proxy_pass http://unix:{{.UnixBackend}};
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection "upgrade";
			proxy_set_header Host $http_host;
		}
	}
}
`

// haproxyConfig has the timeouts of Debian's default configuration, except in the backend
// short.
const haproxyConfig = `
global
	maxconn 1000

defaults
	mode http
	timeout connect 5s
	timeout client 50s
	timeout server 50s

frontend default
	bind {{.Plain}}
	bind {{.TLS}} ssl crt {{.Certificate}} alpn h2,http/1.1
	default_backend default

backend default
	server app {{.Backend}}

frontend short
	bind {{.Short}}
	bind {{.ShortTLS}} ssl crt {{.Certificate}} alpn h2,http/1.1
	default_backend short

backend short
	timeout tunnel {{.IdleTimeout}}
	server app {{.Backend}}
`

// varnishConfig is the configuration that Varnish documents for WebSockets, with a path that
// Varnish refuses and one that it does not pipe.
const varnishConfig = `
vcl 4.1;

backend default {
	.host = "{{.BackendHost}}";
	.port = "{{.BackendPort}}";
}

sub vcl_recv {
	if (req.url ~ "^/forbidden/") {
		return (synth(403));
	}
	if (req.url == "/checked/") {
		return (pass);
	}
	if (req.http.upgrade ~ "(?i)websocket") {
		return (pipe);
	}
}

sub vcl_pipe {
	if (req.http.upgrade) {
		set bereq.http.upgrade = req.http.upgrade;
		set bereq.http.connection = req.http.connection;
	}
}
`
