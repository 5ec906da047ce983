package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	_ "image/jpeg" // reads --image
	"image/png"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/demo"
	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/picture"
	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/catalog"
	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/nodes/goop"
	"github.com/cleaveml/cleave/nodes/ort"
)

type demoFlags struct {
	model, image, scene, form, draw, store string
	slowdowns                              []float64
	rounds                                 int
	quick, json, lossless                  bool
}

const pictureSeed = 1

func newDemo() *cobra.Command {
	var f demoFlags
	c := &cobra.Command{
		Use:   "demo",
		Short: "Cut a network across three agents on this machine: the main job",
		Long: `Start three agents, device, edge and cloud, in processes of their own. Slower
hosts are emulated by stretching all their work, links by shaping each sender's
packets. Cleave measures hosts and links, chooses a cut, runs frames of a picture
under it and under device-only, edge-only and cloud-only, interleaved, and
compares every answer with the uncut network's.`,
		Example: `  cleave demo
  cleave demo --model resnet18 --scene private
  cleave demo --model face.onnx --image people.jpg     # draws boxes`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return runDemo(c, f) },
	}
	c.Flags().StringVar(&f.model, "model", "mobilenet_v2", "network of the zoo or ONNX file")
	c.Flags().StringVar(&f.image, "image", "", "JPEG or PNG to send instead of the built-in picture")
	c.Flags().StringVar(&f.scene, "scene", "", "play only this scene: wifi or private")
	c.Flags().StringVar(&f.form, "form", "portable", "canonical form of the model: portable or exact")
	c.Flags().StringVar(&f.draw, "draw", "cleave-boxes.png", "where to draw found boxes")
	c.Flags().StringVar(&f.store, "store", "", "folder of models (default: cleave/models in the user's cache folder)")
	c.Flags().Float64SliceVar(&f.slowdowns, "slowdown", []float64{16, 2, 1}, "how much slower than this machine device, edge and cloud are")
	c.Flags().IntVar(&f.rounds, "rounds", 30, "frames per strategy and scene")
	c.Flags().BoolVar(&f.quick, "quick", false, "fewer frames and shorter measurements")
	c.Flags().BoolVar(&f.lossless, "lossless", false, "send tensors losslessly even where the model's description allows fp16 or int8")
	c.Flags().BoolVar(&f.json, "json", false, "print figures and rows as JSON")
	return c
}

func runDemo(c *cobra.Command, f demoFlags) error {
	scenes, err := f.check()
	if err != nil {
		return err
	}
	job, err := newDemoJob(c.Context(), f)
	if err != nil {
		return err
	}
	defer job.close()
	show := newProgress(os.Stderr)
	say := demo.Discard
	if !f.json {
		say = demo.SayTo(c.OutOrStdout())
	}
	clean, remove, err := tempDir("cleave-demo-")
	if err != nil {
		return err
	}
	defer remove()
	program, err := selfPath()
	if err != nil {
		return err
	}
	g := job.graph
	say("Cleave %s: %s, %d ops, %v of weights, %s form, ONNX Runtime %s", version, g.Name, len(g.Ops), g.Weights(g.Range(0, len(g.Ops))), g.Form, job.rt.Version())
	say("input: %s", job.input)
	result, err := demo.Run(c.Context(), demo.Config{
		Entry: job.entry, Graph: g, Frame: job.frame, Uncut: job.uncut, Scenes: scenes, Rounds: f.rounds, Budget: 20 * time.Second,
		Lab: lab.Config{Program: program, Dir: clean, Store: job.store.Dir(),
			Hosts: lab.ThreeTiers(f.slowdowns[0], f.slowdowns[1], f.slowdowns[2]), Log: os.Stderr},
		Profile: f.effort(), Lossless: f.lossless,
		Say:  func(format string, args ...any) { show.Done(); say(format, args...) },
		Step: func(format string, args ...any) { show.Step(format, args...) },
	})
	show.Done()
	if err != nil {
		return err
	}
	return job.report(c, f, result)
}

func (f *demoFlags) check() ([]lab.Scene, error) {
	if len(f.slowdowns) != 3 {
		return nil, usagef("--slowdown takes three numbers, for device, edge and cloud, not %d", len(f.slowdowns))
	}
	for _, s := range f.slowdowns {
		if !(s >= 1 && s <= 1e4) {
			return nil, usagef("--slowdown %v: want 1 or more", s)
		}
	}
	if f.rounds < 1 {
		return nil, usagef("--rounds %d: want 1 or more", f.rounds)
	}
	if f.quick {
		f.rounds = min(f.rounds, 5)
	}
	if f.scene == "" {
		return lab.Scenes(), nil
	}
	s, err := lab.FindScene(f.scene)
	if err != nil {
		return nil, usageError{err}
	}
	return []lab.Scene{s}, nil
}

// effort of measuring.
func (f *demoFlags) effort() nodes.PlanRequest {
	if f.quick {
		return nodes.PlanRequest{Runs: 2, Cuts: 5, Shortlist: 3}
	}
	return nodes.PlanRequest{Runs: 5, Cuts: 8, Shortlist: 6}
}

// demoJob is what a demo runs: the model, its frames and the uncut network.
type demoJob struct {
	rt      *ort.Runtime
	store   *models.Store
	entry   *catalog.Entry
	graph   *models.Graph
	compute *nodes.Compute
	whole   *nodes.Loaded
	image   []byte // of --image
	street  *picture.Street
	input   string // what is sent, for people
	width   int
	height  int
}

func newDemoJob(ctx context.Context, f demoFlags) (_ *demoJob, err error) {
	j := &demoJob{width: catalog.DefaultWidth, height: catalog.DefaultHeight}
	form, err := models.ParseForm(f.form)
	if err != nil {
		return nil, usageError{err}
	}
	if j.entry, err = catalog.Find(f.model, ""); err != nil {
		return nil, err
	}
	if err := j.loadImage(f.image); err != nil {
		return nil, err
	}
	if j.rt, err = openRuntime(1); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			j.close()
		}
	}()
	if j.store, err = openStore(f.store); err != nil {
		return nil, err
	}
	show := newProgress(os.Stderr)
	j.graph, err = j.entry.Prepare(ctx, j.store, j.rt, catalog.Options{Width: j.width, Height: j.height, Form: form}, func(s string) { show.Step("%s", s) })
	show.Done()
	if err != nil {
		return nil, err
	}
	pace, err := nodes.NewPace(1, 1)
	if err != nil {
		return nil, err
	}
	j.compute = nodes.NewCompute(engine{j.rt}, pace, 0)
	if j.whole, err = j.compute.Load(ctx, j.graph, j.graph.Whole().Ops); err != nil {
		return nil, err
	}
	return j, j.describeInput()
}

func (j *demoJob) loadImage(path string) error {
	if path == "" {
		return nil
	}
	if !j.entry.TakesImage() {
		return usagef("--image: %s does not take pictures", j.entry.Name)
	}
	var err error
	if j.image, err = os.ReadFile(path); err != nil {
		return fmt.Errorf("--image: %w", err)
	}
	if j.width, j.height, err = goop.Check(j.image); err != nil {
		return fmt.Errorf("--image %s: %w", path, err)
	}
	return nil
}

func (j *demoJob) describeInput() error {
	inputs, err := j.frame(0)
	if err != nil {
		return err
	}
	for name, t := range inputs {
		j.input = fmt.Sprintf("%s %v", name, t)
		if j.entry.TakesImage() {
			j.input = fmt.Sprintf("a picture of %d×%d in %v", j.width, j.height, t.Bytes())
		}
	}
	return nil
}

func (j *demoJob) close() {
	if j.compute != nil {
		_ = j.compute.Close() // the process ends anyway
	}
	if j.rt != nil {
		_ = j.rt.Close()
	}
}

// frame returns the inputs of frame n.
func (j *demoJob) frame(n int) (map[string]tensor.Tensor, error) {
	if !j.entry.TakesImage() {
		inputs := map[string]tensor.Tensor{}
		for _, id := range j.graph.Inputs {
			t, err := goop.Sample(j.graph, id)
			if err != nil {
				return nil, err
			}
			inputs[j.graph.Values[id].Name] = t
		}
		return inputs, nil
	}
	data := j.image
	if data == nil {
		var err error
		if j.street == nil {
			j.street = picture.New(pictureSeed)
		}
		if data, err = j.street.JPEG(n); err != nil {
			return nil, err
		}
	}
	return map[string]tensor.Tensor{models.EncodedImage: tensor.FromBytes(data)}, nil
}

// uncut runs the whole network in this process.
func (j *demoJob) uncut(ctx context.Context, inputs map[string]tensor.Tensor) (map[string]tensor.Tensor, error) {
	values := nodes.Values{}
	for _, id := range j.graph.Inputs {
		values[id] = inputs[j.graph.Values[id].Name]
	}
	if _, err := j.compute.Run(ctx, j.whole, values, nil, nil); err != nil {
		return nil, err
	}
	outputs := map[string]tensor.Tensor{}
	for _, id := range j.graph.Outputs {
		outputs[j.graph.Values[id].Name] = values[id]
	}
	return outputs, nil
}

func (j *demoJob) report(c *cobra.Command, f demoFlags, result demo.Result) error {
	r := benchmarks.NewReport("demo", version, "ONNX Runtime "+j.rt.Version(), ort.CPUFeatures())
	r.Figures = demoFigures(result)
	for _, row := range result.Rows {
		r.Rows = append(r.Rows, row)
	}
	if f.json {
		if err := printJSON(c.OutOrStdout(), r); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(c.OutOrStdout())
		result.Print(c.OutOrStdout())
		fmt.Fprintf(c.OutOrStdout(), "\nanswer to the first frame: %v\n", result.First)
	}
	if err := j.drawBoxes(c, f, result); err != nil {
		return err
	}
	if result.Lost()+result.Wrong()+result.Refused() > 0 {
		return fmt.Errorf("%d answers lost, %d wrong, %d requests refused", result.Lost(), result.Wrong(), result.Refused())
	}
	return nil
}

func demoFigures(result demo.Result) []benchmarks.Figure {
	figures := []benchmarks.Figure{
		benchmarks.NewFigure("lost", float64(result.Lost()), "requests", benchmarks.Lower, 0),
		benchmarks.NewFigure("wrong", float64(result.Wrong()), "answers", benchmarks.Lower, 0),
		benchmarks.NewFigure("refused", float64(result.Refused()), "requests", benchmarks.Lower, 0),
	}
	ours, ok := result.Find("private", "cleave")
	alone, ok2 := result.Find("private", "device-only")
	if ok && ok2 && ours.Answered > 0 && alone.Answered > 0 {
		split := 0.0
		if ours.Split {
			split = 1
		}
		figures = append(figures, benchmarks.NewFigure("private_is_split", split, "bool", benchmarks.Higher, 1))
		figures = append(figures, benchmarks.NewFigure("private_p50_over_device_only", ours.P50/alone.P50, "ratio", benchmarks.Lower, 0.92))
	}
	return figures
}

// drawBoxes writes the picture with what was found in it.
func (j *demoJob) drawBoxes(c *cobra.Command, f demoFlags, result demo.Result) error {
	if result.First.Kind != pipeline.Boxes || f.draw == "" || f.json {
		return nil
	}
	inputs, err := j.frame(0)
	if err != nil {
		return err
	}
	err = drawBoxes(f.draw, inputs[models.EncodedImage].Data, result.First.Boxes)
	if err == nil {
		fmt.Fprintf(c.OutOrStdout(), "drawn into %s\n", f.draw)
	}
	return err
}

// drawBoxes decodes a picture and writes it as a PNG with boxes.
func drawBoxes(path string, encoded []byte, boxes []pipeline.Box) error {
	img, _, err := image.Decode(bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("draw boxes: %w", err)
	}
	if err := png.Encode(out, pipeline.Draw(img, boxes)); err != nil {
		_ = out.Close() // the first error counts
		return fmt.Errorf("draw boxes: %w", err)
	}
	return out.Close()
}
