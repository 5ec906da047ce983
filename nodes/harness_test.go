package nodes_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic"
)

// width of every tensor of the test network.
const width = 64

// network is a diamond with a tail: x → a → (b, c) → d → e, where op a is raw
// preprocessing and b and c are the first learned layers.
//
//	Inc(x)=x+1   Dot(x)=2x with weights   Sum(x,y)=x+y
func network() *onnx.ModelProto { return networkOf(width) }

// networkOf is network with tensors of so many elements.
func networkOf(width int64) *onnx.ModelProto {
	node := func(name, kind string, in ...string) *onnx.NodeProto {
		return &onnx.NodeProto{Name: proto.String(name), OpType: proto.String(kind), Input: in, Output: []string{name}}
	}
	vector := func(name string) *onnx.ValueInfoProto {
		return &onnx.ValueInfoProto{Name: proto.String(name), Type: &onnx.TypeProto{Value: &onnx.TypeProto_TensorType{TensorType: &onnx.TypeProto_Tensor{
			ElemType: proto.Int32(int32(tensor.Float32)),
			Shape: &onnx.TensorShapeProto{Dim: []*onnx.TensorShapeProto_Dimension{
				{Value: &onnx.TensorShapeProto_Dimension_DimValue{DimValue: 1}},
				{Value: &onnx.TensorShapeProto_Dimension_DimValue{DimValue: width}},
			}},
		}}}}
	}
	return &onnx.ModelProto{
		IrVersion:   proto.Int64(8),
		OpsetImport: []*onnx.OperatorSetIdProto{{Version: proto.Int64(17)}},
		Graph: &onnx.GraphProto{
			Name:        proto.String("diamond"),
			Input:       []*onnx.ValueInfoProto{vector("x")},
			Output:      []*onnx.ValueInfoProto{vector("e")},
			Initializer: []*onnx.TensorProto{{Name: proto.String("w"), Dims: []int64{1, 1}, DataType: proto.Int32(int32(tensor.Float32)), RawData: []byte{0, 0, 0, 64}}},
			Node: []*onnx.NodeProto{
				node("a", "Inc", "x"), node("b", "MatMul", "a", "w"), node("c", "MatMul", "b", "w"),
				node("d", "Sum", "b", "c"), node("e", "Inc", "d"),
			},
		},
	}
}

// answer of the network for an element.
func answer(x float32) float32 { return (2*(x+1) + 4*(x+1)) + 1 }

// fakeRuntime makes nothing better: the canonical form is the model itself.
type fakeRuntime struct{}

func (fakeRuntime) Optimize(_ context.Context, model []byte, _, out, _ string, _ models.Form) error {
	return os.WriteFile(out, model, 0o600)
}

func (fakeRuntime) Outputs(_ context.Context, model []byte, _ string) ([]models.ValueInfo, error) {
	m := new(onnx.ModelProto)
	if err := proto.Unmarshal(model, m); err != nil {
		return nil, err
	}
	var out []models.ValueInfo
	for _, o := range m.Graph.Output {
		n := m.Graph.Input[0].GetType().GetTensorType().GetShape().GetDim()[1].GetDimValue()
		out = append(out, models.ValueInfo{Name: o.GetName(), DType: tensor.Float32, Shape: tensor.Shape{1, n}})
	}
	return out, nil
}

func (fakeRuntime) RunOnce(context.Context, []byte, string, map[string]tensor.Tensor) ([]tensor.Tensor, error) {
	return nil, fmt.Errorf("no sizes are open")
}

func (fakeRuntime) Fingerprint(models.Form) string { return "fake" }

// fakeEngine interprets stages. hold, when set, is called before every run of
// a session and may block.
type fakeEngine struct {
	mu    sync.Mutex
	hold  func(ctx context.Context, ops int) error
	runs  int
	loads int
}

func (e *fakeEngine) setHold(hold func(context.Context, int) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hold = hold
}

func (e *fakeEngine) Load(_ context.Context, st models.Stage) (nodes.Session, error) {
	e.mu.Lock()
	e.loads++
	e.mu.Unlock()
	m := new(onnx.ModelProto)
	if err := proto.Unmarshal(st.Model, m); err != nil {
		return nil, err
	}
	return &fakeSession{e, st, m.Graph.Node}, nil
}

type fakeSession struct {
	engine *fakeEngine
	st     models.Stage
	nodes  []*onnx.NodeProto
}

func (s *fakeSession) Close() error { return nil }

func (s *fakeSession) Run(ctx context.Context, inputs []tensor.Tensor) ([]tensor.Tensor, error) {
	s.engine.mu.Lock()
	s.engine.runs++
	hold := s.engine.hold
	s.engine.mu.Unlock()
	if hold != nil {
		if err := hold(ctx, len(s.nodes)); err != nil {
			return nil, err
		}
	}
	values := map[string][]float32{}
	for i, v := range s.st.In {
		values[v.Name] = inputs[i].Float32()
	}
	for _, n := range s.nodes {
		x := values[n.Input[0]]
		y := make([]float32, len(x))
		for i := range x {
			switch n.GetOpType() {
			case "Inc":
				y[i] = x[i] + 1
			case "MatMul":
				y[i] = 2 * x[i]
			case "Sum":
				y[i] = x[i] + values[n.Input[1]][i]
			}
		}
		values[n.Output[0]] = y
	}
	var out []tensor.Tensor
	for _, v := range s.st.Out {
		out = append(out, tensor.FromFloat32(values[v.Name], 1, int64(len(values[v.Name]))))
	}
	return out, nil
}

// host is one agent of a test cluster.
type host struct {
	agent    *nodes.Agent
	engine   *fakeEngine
	endpoint *quic.Endpoint
}

// trio is a device, an edge and a cloud joined by QUIC on loopback.
type trio struct {
	g     *models.Graph
	pki   string
	hosts map[partition.HostID]*host
	app   *quic.Endpoint // an application's
}

// probeMost spares the tests most of the megabytes that tell how fast loopback is.
const probeMost = 4 << 20

func newTrio(t *testing.T, configure func(*nodes.Config)) *trio {
	t.Helper()
	return newTrioOf(t, network(), configure)
}

func newTrioOf(t *testing.T, network *onnx.ModelProto, configure func(*nodes.Config)) *trio {
	t.Helper()
	dir := t.TempDir()
	pki := filepath.Join(dir, "pki")
	must(t, identity.CreateCA(pki))
	store := models.NewStore(filepath.Join(dir, "models"))
	g, err := store.Prepare(context.Background(), fakeRuntime{}, models.Recipe{
		Name: "diamond", Fingerprint: "1", Open: func() (*models.File, error) { return &models.File{Proto: network}, nil },
	}, nil)
	must(t, err)
	members := []partition.Host{{ID: "device", Tier: partition.Device}, {ID: "edge", Tier: partition.Edge}, {ID: "cloud", Tier: partition.Cloud}}
	c := &trio{g: g, pki: pki, hosts: map[partition.HostID]*host{}}
	for _, m := range members {
		must(t, identity.Issue(pki, m.ID, transport.Node))
		id, err := identity.Load(pki, m.ID)
		must(t, err)
		pace, err := nodes.NewPace(2, 1)
		must(t, err)
		h := &host{engine: &fakeEngine{}}
		cfg := nodes.Config{ID: m.ID, Hosts: members, Store: store, Compute: nodes.NewCompute(h.engine, pace, 0), Sample: sample, Log: slog.New(slog.DiscardHandler)}
		if configure != nil {
			configure(&cfg)
		}
		h.agent, err = nodes.New(cfg)
		must(t, err)
		h.endpoint, err = quic.Listen(quic.Config{Identity: id, Addr: "127.0.0.1:0", Handler: h.agent.Handle, ProbeMost: probeMost})
		must(t, err)
		h.agent.Attach(h.endpoint)
		c.hosts[m.ID] = h
		t.Cleanup(func() {
			must(t, h.endpoint.Close())
			must(t, h.agent.Close())
		})
	}
	for _, a := range c.hosts {
		for id, b := range c.hosts {
			if a != b {
				a.endpoint.SetAddress(id, b.endpoint.Addr().String())
			}
		}
	}
	must(t, identity.Issue(pki, "app", transport.Client))
	id, err := identity.Load(pki, "app")
	must(t, err)
	c.app, err = quic.Listen(quic.Config{Identity: id, Addr: "127.0.0.1:0"})
	must(t, err)
	t.Cleanup(func() { must(t, c.app.Close()) })
	for name, h := range c.hosts {
		c.app.SetAddress(name, h.endpoint.Addr().String())
	}
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sample(g *models.Graph, id models.ValueID) (tensor.Tensor, error) {
	return tensor.FromFloat32(make([]float32, width), 1, width), nil
}

// client connects to a host as an application.
func (c *trio) client(t *testing.T, name partition.HostID) *nodes.Client {
	t.Helper()
	conn, err := c.app.Conn(context.Background(), name)
	must(t, err)
	return nodes.NewClient(conn)
}

// plan puts ops [0,i) on the device, [i,j) on the edge and the rest on the cloud.
func (c *trio) plan(t *testing.T, assign ...int) partition.Plan {
	t.Helper()
	p := c.problem(t)
	plan, err := partition.Evaluate(p, []int{0, 1, 2}, assign)
	must(t, err)
	return plan
}

// problem has unit costs.
func (c *trio) problem(t *testing.T) partition.Problem {
	t.Helper()
	hosts := []partition.Host{{ID: "device", Tier: partition.Device}, {ID: "edge", Tier: partition.Edge}, {ID: "cloud", Tier: partition.Cloud}}
	links := make([][]partition.Link, 3)
	var profiles []nodes.Profile
	for i := range links {
		links[i] = make([]partition.Link, 3)
		for k := range links[i] {
			links[i][k] = partition.Link{Rate: 10 * partition.Mbps, Latency: time.Millisecond}
		}
		profiles = append(profiles, nodes.Profile{Model: c.g.Digest, Host: hosts[i].ID, Ops: []time.Duration{1e6, 1e6, 1e6, 1e6, 1e6}})
	}
	p, err := nodes.NewProblem(c.g, hosts, links, profiles, nil, nil)
	must(t, err)
	return p
}

// input is 0, 1, 2, …
func input() map[string]tensor.Tensor {
	x := make([]float32, width)
	for i := range x {
		x[i] = float32(i)
	}
	return map[string]tensor.Tensor{"x": tensor.FromFloat32(x, 1, width)}
}

// check compares an answer with the network's.
func check(t *testing.T, answers map[string]tensor.Tensor) {
	t.Helper()
	got := answers["e"].Float32()
	if len(got) != width {
		t.Fatalf("the answer is %v", answers)
	}
	for i, y := range got {
		if y != answer(float32(i)) {
			t.Fatalf("element %d is %v, want %v", i, y, answer(float32(i)))
		}
	}
}
