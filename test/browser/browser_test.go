package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestMain sets these for all tests.
var (
	binaries string          // the directory of the programs
	browser  context.Context // Chromium
)

func TestMain(m *testing.M) {
	if os.Getenv("BROWSERTEST") == "skip" {
		fmt.Println("skipped, because BROWSERTEST=skip is set")
		return
	}
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "browser:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

// runTests builds the programs, starts the browser, runs the tests and cleans up.
func runTests(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "browser")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)

	binaries = dir
	build := exec.Command("go", "build", "-C", "../../examples", "-o", dir, "./chat", "./dashboard")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("building the programs: %w\n%s", err, out)
	}
	chromium, err := findChromium()
	if err != nil {
		return 0, err
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(chromium),
		chromedp.UserDataDir(filepath.Join(dir, "profile")),
		chromedp.NoFirstRun,
		chromedp.NoDefaultBrowserCheck,
		chromedp.Headless,
		chromedp.NoSandbox, // the sandbox does not work as root or in most containers
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true),
		chromedp.Flag("disable-renderer-backgrounding", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true))
	defer cancel()
	browser, cancel = chromedp.NewContext(allocator)
	defer cancel()
	if err := chromedp.Run(browser); err != nil {
		return 0, fmt.Errorf("starting %s: %w; set BROWSERTEST=skip to skip these tests", chromium, err)
	}
	return m.Run(), nil
}

// findChromium returns the path of Chromium or Chrome.
func findChromium() (string, error) {
	names := []string{"chromium", "chromium-browser", "google-chrome"}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("none of %s is in PATH: install one of them, or set BROWSERTEST=skip", strings.Join(names, ", "))
}
