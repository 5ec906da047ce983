package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	_ "image/jpeg" // reads --image
	"image/png"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/benchmarks/demo"
	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/lab/netns"
	"github.com/cleaveml/cleave/benchmarks/picture"
	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/catalog"
	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/nodes/goop"
	"github.com/cleaveml/cleave/nodes/ort"
	"github.com/cleaveml/cleave/partition"
)

// demoJob is what a demo runs: the model, its frames and the uncut network.
type demoJob struct {
	rt      *ort.Runtime
	store   *models.Store
	entry   *catalog.Entry
	graph   *models.Graph
	compute *nodes.Compute
	whole   *nodes.Loaded
	network *netns.Net // of --netns
	image   []byte     // of --image
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

// cluster describes the agents of a demo: in namespaces, or on loopback.
func (j *demoJob) cluster(f demoFlags, cfg *demo.Config) error {
	cfg.Lab.Hosts = lab.ThreeTiers(f.slowdowns[0], f.slowdowns[1], f.slowdowns[2])
	if !f.netns {
		return nil
	}
	var names []partition.HostID
	for _, h := range cfg.Lab.Hosts {
		names = append(names, h.Name)
	}
	var err error
	if j.network, err = netns.New(names, nil); err != nil {
		return fmt.Errorf("--netns: %w", err)
	}
	cfg.Lab.Network, cfg.Counters = j.network, j.network.Counters
	return nil
}

// enter begins a command line that reaches the demo's agents.
func (j *demoJob) enter(host partition.HostID) string {
	if j.network == nil {
		return ""
	}
	return strings.Join(append(j.network.Enter(host), ""), " ")
}

func (j *demoJob) close() {
	if j.network != nil {
		j.network.Close()
	}
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
