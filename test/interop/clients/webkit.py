"""Opens a WebSocket from a page of each URL on the command line, in WebKitGTK. The first argument is the WebSocket's URL."""

import sys

import gi

gi.require_version("Gtk", "3.0")
gi.require_version("WebKit2", "4.1")
from gi.repository import Gio, GLib, Gtk, WebKit2

socket, *pages = sys.argv[1:]
PAGE = f"<!doctype html><script>new WebSocket('{socket}' + location.protocol.slice(0, -1));</script>".encode()


def serve(request):
    request.finish(Gio.MemoryInputStream.new_from_data(PAGE), len(PAGE), "text/html")


context = WebKit2.WebContext.new_ephemeral()
for page in pages:
    scheme = page.split(":")[0]
    if scheme == "file":
        with open(page.removeprefix("file://"), "wb") as file:
            file.write(PAGE)
    else:
        context.register_uri_scheme(scheme, serve)
views = []
for page in pages:
    view = WebKit2.WebView.new_with_context(context)
    window = Gtk.OffscreenWindow()
    window.add(view)
    window.show_all()
    view.load_uri(page)
    views.append(view)  # otherwise Python removes them
GLib.io_add_watch(sys.stdin, GLib.PRIORITY_DEFAULT, GLib.IOCondition.HUP, Gtk.main_quit)  # the test has ended
Gtk.main()
