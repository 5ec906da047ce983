package nodes

import (
	"context"
	"fmt"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport"
)

// Client speaks to one agent. It is safe for concurrent use.
type Client struct {
	conn   transport.Conn
	tracer Tracer // nil: none
}

// NewClient uses a connection, which stays the caller's to close.
func NewClient(conn transport.Conn) *Client { return &Client{conn: conn} }

// Traced returns a client that sends requests as part of the trace that their context
// is of.
func (c *Client) Traced(t Tracer) *Client { return &Client{c.conn, t} }

// call is the function of this name, for this client.
func (c *Client) call(ctx context.Context, r request, reply any) (*transport.Frame, error) {
	return call(withTracer(ctx, c.tracer), c.conn, r, reply)
}

// Progress tells how far a measurement is.
type Progress = progress

// Status asks who the agent is and what it has.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var st Status
	reply, err := c.call(ctx, request{kind: kindStatus}, &st)
	if err != nil {
		return st, err
	}
	reply.Release()
	return st, nil
}

// StatusOf asks for another host through the agent.
func (c *Client) StatusOf(ctx context.Context, host partition.HostID) (Status, error) {
	var st Status
	reply, err := c.call(ctx, request{kind: kindStatus, control: statusRequest{Of: host}}, &st)
	if err != nil {
		return st, err
	}
	reply.Release()
	return st, nil
}

// Plan has the agent, as origin, measure and plan a model; inputs are a sample
// of every input of the graph, by name. report may be nil.
func (c *Client) Plan(ctx context.Context, g *models.Graph, r PlanRequest, inputs map[string]tensor.Tensor, report func(Progress)) (PlanReply, error) {
	var plan PlanReply
	f := transport.NewFrame(kindPlan)
	defer f.Release()
	r.Model = g.Digest
	if err := addInputs(f, g, inputs); err != nil {
		return plan, err
	}
	reply, err := c.call(ctx, request{kind: kindPlan, control: r, frame: f, onProgress: report}, &plan)
	if err != nil {
		return plan, err
	}
	reply.Release()
	plan.Restore()
	return plan, nil
}

// Adopt makes a plan ready and returns its epoch.
func (c *Client) Adopt(ctx context.Context, r AdoptRequest) (uint64, error) {
	var a AdoptReply
	reply, err := c.call(ctx, request{kind: kindAdopt, control: r}, &a)
	if err != nil {
		return 0, err
	}
	reply.Release()
	return a.Epoch, nil
}

// Infer sends one request. The answers are by name; ctx's deadline is the
// request's.
func (c *Client) Infer(ctx context.Context, g *models.Graph, epoch uint64, inputs map[string]tensor.Tensor) (map[string]tensor.Tensor, InferReport, error) {
	return c.infer(ctx, g, inferRequest{Epoch: epoch, Model: g.Digest}, inputs)
}

func (c *Client) infer(ctx context.Context, g *models.Graph, r inferRequest, inputs map[string]tensor.Tensor) (map[string]tensor.Tensor, InferReport, error) {
	var report InferReport
	f := transport.NewFrame(kindInfer)
	defer f.Recycle()
	if err := addInputs(f, g, inputs); err != nil {
		return nil, report, err
	}
	reply, err := c.call(ctx, request{kind: kindInfer, control: r, frame: f}, &report)
	if err != nil {
		return nil, report, err
	}
	defer reply.Recycle()
	answers, err := answersOf(reply, g)
	return answers, report, err
}

func addInputs(f *transport.Frame, g *models.Graph, inputs map[string]tensor.Tensor) error {
	for _, id := range g.Inputs {
		t, ok := inputs[g.Values[id].Name]
		if !ok {
			return &Error{Op: "send inputs", Kind: Invalid, Err: fmt.Errorf("input %q is missing", g.Values[id].Name)}
		}
		if err := addValue(f, id, transport.Raw, t, f.Add); err != nil {
			return err
		}
	}
	return nil
}

// Open opens a stream at the agent, or finds it in the cluster; inputs are a sample of every
// input of the graph, by name. report may be nil.
func (c *Client) Open(ctx context.Context, g *models.Graph, r OpenRequest, inputs map[string]tensor.Tensor, report func(Progress)) (StreamState, error) {
	var st StreamState
	f := transport.NewFrame(kindOpen)
	defer f.Release()
	r.Model = g.Digest
	if err := addInputs(f, g, inputs); err != nil {
		return st, err
	}
	reply, err := c.call(ctx, request{kind: kindOpen, control: r, frame: f, onProgress: report}, &st)
	if err != nil {
		return st, err
	}
	reply.Release()
	return st, nil
}

// Send has a stream answer one request, wherever in the cluster it starts. The
// answers are by name; ctx's deadline is the request's.
func (c *Client) Send(ctx context.Context, g *models.Graph, id scheduler.StreamID, inputs map[string]tensor.Tensor) (map[string]tensor.Tensor, InferReport, error) {
	return c.SendTo(ctx, g, "", id, inputs)
}

// SendTo is Send for a stream of this origin; the agent passes the request on
// to it. Where two hosts have a stream of one name, only this tells which.
func (c *Client) SendTo(ctx context.Context, g *models.Graph, origin partition.HostID, id scheduler.StreamID, inputs map[string]tensor.Tensor) (map[string]tensor.Tensor, InferReport, error) {
	return c.infer(ctx, g, inferRequest{Stream: id, Origin: origin, Model: g.Digest}, inputs)
}

// Set changes settings of a stream; any agent passes it on to the origin.
func (c *Client) Set(ctx context.Context, r SetRequest) (StreamState, error) {
	var st StreamState
	reply, err := c.call(ctx, request{kind: kindSet, control: r}, &st)
	if err != nil {
		return st, err
	}
	reply.Release()
	return st, nil
}

// CloseStream ends a stream; any agent passes it on to the origin.
func (c *Client) CloseStream(ctx context.Context, r CloseRequest) (StreamState, error) {
	var st StreamState
	reply, err := c.call(ctx, request{kind: kindClose, control: r}, &st)
	if err != nil {
		return st, err
	}
	reply.Release()
	return st, nil
}

// Streams describes the streams of an origin, "": of the agent that is asked.
func (c *Client) Streams(ctx context.Context, origin partition.HostID) ([]StreamState, error) {
	var out []StreamState
	reply, err := c.call(ctx, request{kind: kindStreams, control: streamsRequest{Origin: origin}}, &out)
	if err != nil {
		return nil, err
	}
	reply.Release()
	return out, nil
}
