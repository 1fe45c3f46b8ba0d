package browser

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// screenshot writes a screenshot to the directory that SCREENSHOTS names, if it is set.
func (p *tab) screenshot(name string) {
	p.t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	p.until("all animations have ended", "document.getAnimations().length === 0")
	var shot []byte
	p.run(chromedp.CaptureScreenshot(&shot))
	img, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		p.t.Fatal(err)
	}
	var file bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&file, fewColors(img)); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), file.Bytes(), 0o666); err != nil {
		p.t.Fatal(err)
	}
}

// fewColors returns the image with its most frequent colors, and others that are not almost the
// same, because a file with a palette is less than half as large.
func fewColors(img image.Image) image.Image {
	frequency := make(map[color.Color]int)
	bounds := img.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			frequency[img.At(x, y)]++
		}
	}
	var palette color.Palette
	for c := range frequency {
		palette = append(palette, c)
	}
	slices.SortFunc(palette, func(a, b color.Color) int { return frequency[b] - frequency[a] })
	var few color.Palette
	for _, c := range palette {
		if len(few) < 16 || len(few) < 128 && distance(c, few.Convert(c)) > 30 {
			few = append(few, c)
		}
	}
	nearest := make(map[color.Color]uint8)
	for _, c := range palette {
		nearest[c] = uint8(few.Index(c))
	}
	result := image.NewPaletted(bounds, few)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			result.SetColorIndex(x, y, nearest[img.At(x, y)])
		}
	}
	return result
}

// distance returns how much two colors differ: the sum of the differences of red, green and
// blue, each up to 255.
func distance(a, b color.Color) (sum int) {
	x, y := color.NRGBAModel.Convert(a).(color.NRGBA), color.NRGBAModel.Convert(b).(color.NRGBA)
	for _, d := range []int{int(x.R) - int(y.R), int(x.G) - int(y.G), int(x.B) - int(y.B)} {
		sum += max(d, -d)
	}
	return sum
}

// size sets the size of the window and the color scheme of the system.
func (p *tab) size(width, height int64, phone bool, scheme string) {
	p.t.Helper()
	prefer := emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}})
	scale := 1.5
	if phone {
		scale = 2
	}
	p.run(emulation.SetDeviceMetricsOverride(width, height, scale, phone), prefer)
}

// forEachView runs f for a phone and for a desktop, in light and in dark mode.
func forEachView(t *testing.T, f func(t *testing.T, name string, resize func(*tab))) {
	for _, view := range []struct {
		name          string
		width, height int64
		phone         bool
	}{
		{"phone", 390, 844, true},
		{"desktop", 1280, 800, false},
	} {
		for _, scheme := range []string{"light", "dark"} {
			t.Run(view.name+" "+scheme, func(t *testing.T) {
				f(t, view.name+"-"+scheme, func(p *tab) { p.size(view.width, view.height, view.phone, scheme) })
			})
		}
	}
}
