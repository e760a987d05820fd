// Prometheus' own engine as an oracle: reads commands as lines of JSON, answers each with a line of JSON.
//
//	{"op":"load","series":[{"labels":{"__name__":"up"},"samples":[[0,"1"],[15000,{"schema":0,…}]]}]}
//	{"op":"query","query":"up","start":0,"end":60000,"step":15000,"delayed":false}
//	{"op":"time","query":"up","start":60000,"end":60000,"step":0,"rounds":100}
//	{"op":"parse","page":"up 1\n","format":"text/plain","rounds":100}
//
// Times are milliseconds; a query with step 0 is an instant query at start. Floats are texts, because JSON has no NaN.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"sort"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/teststorage"
)

type command struct {
	Op      string   `json:"op"`
	Series  []series `json:"series"`
	Query   string   `json:"query"`
	Start   int64    `json:"start"`
	End     int64    `json:"end"`
	Step    int64    `json:"step"`
	Rounds  int      `json:"rounds"`
	Delayed bool     `json:"delayed"`
	Page    string   `json:"page"`
	Format  string   `json:"format"`
}

type series struct {
	Labels  map[string]string    `json:"labels"`
	Samples [][2]json.RawMessage `json:"samples"`
}

type native struct {
	Schema        int32       `json:"schema"`
	Bounds        []float64   `json:"bounds"`
	ZeroThreshold float64     `json:"zero_threshold"`
	ZeroCount     string      `json:"zero_count"`
	Count         string      `json:"count"`
	Sum           string      `json:"sum"`
	Positive      [][2]string `json:"positive"`
	Negative      [][2]string `json:"negative"`
	Hint          int         `json:"hint"`
}

type answer struct {
	Error    string         `json:"error,omitempty"`
	Kind     string         `json:"kind,omitempty"`
	Series   []answerSeries `json:"series"`
	Warnings []string       `json:"warnings"`
	Infos    []string       `json:"infos"`
	Nanos    float64        `json:"nanos,omitempty"`
	Printed  string         `json:"printed,omitempty"`
	Pretty   string         `json:"pretty,omitempty"`
}

type answerSeries struct {
	Labels map[string]string `json:"labels"`
	Points [][2]any          `json:"points"`
}

type oracle struct {
	storage *teststorage.TestStorage
	engines map[bool]*promql.Engine
}

func newEngine(delayed bool) *promql.Engine {
	return promql.NewEngine(promql.EngineOpts{
		MaxSamples:               50_000_000,
		Timeout:                  100 * time.Second,
		LookbackDelta:            5 * time.Minute,
		NoStepSubqueryIntervalFn: func(int64) int64 { return 60_000 },
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		EnableDelayedNameRemoval: delayed,
		Parser:                   queryParser,
	})
}

var queryParser = parser.NewParser(parser.Options{
	ExperimentalDurationExpr:     true,
	EnableExperimentalFunctions:  true,
	EnableExtendedRangeSelectors: true,
	EnableBinopFillModifiers:     true,
})

func main() {
	o := oracle{engines: map[bool]*promql.Engine{false: newEngine(false), true: newEngine(true)}}
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			break
		}
		var c command
		var a answer
		if err := json.Unmarshal(line, &c); err != nil {
			a = answer{Error: "bad command: " + err.Error()}
		} else {
			a = o.run(c)
		}
		text, err := json.Marshal(a)
		if err != nil {
			text = []byte(`{"error":"unprintable answer"}`)
		}
		out.Write(append(text, '\n'))
		out.Flush()
	}
	if o.storage != nil {
		o.storage.Close()
	}
}

func (o *oracle) run(c command) answer {
	switch c.Op {
	case "load":
		if err := o.load(c.Series); err != nil {
			return answer{Error: "load: " + err.Error()}
		}
		return answer{}
	case "query":
		return o.query(c)
	case "time":
		if a := o.query(c); a.Error != "" {
			return a
		}
		began := time.Now()
		for range c.Rounds {
			o.evaluate(c, func(*promql.Result) {})
		}
		return answer{Nanos: float64(time.Since(began).Nanoseconds()) / float64(c.Rounds)}
	}
	if c.Op == "parse" {
		page := []byte(c.Page)
		began := time.Now()
		for range c.Rounds {
			if err := parsePage(page, c.Format); err != nil {
				return answer{Error: err.Error()}
			}
		}
		return answer{Nanos: float64(time.Since(began).Nanoseconds()) / float64(c.Rounds)}
	}
	return answer{Error: "unknown op " + c.Op}
}

// Reads every sample of a page, with its labels, as a first scrape does.
func parsePage(page []byte, format string) error {
	p, err := textparse.New(page, format, labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		return err
	}
	var lset labels.Labels
	for {
		entry, err := p.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if entry == textparse.EntrySeries {
			p.Series()
			p.Labels(&lset)
		}
	}
}

func (o *oracle) load(all []series) error {
	if o.storage != nil {
		o.storage.Close()
	}
	var err error
	if o.storage, err = teststorage.NewWithError(); err != nil {
		return err
	}
	for _, s := range all {
		lset := labels.FromMap(s.Labels)
		app, together := o.storage.Appender(context.Background()), ""
		for _, sample := range s.Samples {
			var t int64
			if err := json.Unmarshal(sample[0], &t); err != nil {
				return err
			}
			var text string
			isFloat := json.Unmarshal(sample[1], &text) == nil
			// In one batch, histograms before floats are dropped; a stale marker is of the kind of the sample before it.
			if kind := kind(isFloat, text); kind != together {
				if err := app.Commit(); err != nil {
					return err
				}
				app, together = o.storage.Appender(context.Background()), kind
			}
			if isFloat {
				if _, err := app.Append(0, lset, t, float(text)); err != nil {
					return err
				}
			} else {
				var n native
				if err := json.Unmarshal(sample[1], &n); err != nil {
					return err
				}
				if _, err := app.AppendHistogram(0, lset, t, nil, n.histogram()); err != nil {
					return fmt.Errorf("%s: %w", sample[1], err)
				}
			}
		}
		if err := app.Commit(); err != nil {
			return err
		}
	}
	return nil
}

func kind(isFloat bool, text string) string {
	switch {
	case !isFloat:
		return "histogram"
	case text == "stale":
		return text
	}
	return "float"
}

// compacted reads histograms without their empty buckets. Which of those the storage keeps depends on the other samples of a
// chunk, and shows in estimates around zero, in changes and wherever infinity multiplies them.
type compacted struct{ storage.Queryable }

func (c compacted) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := c.Queryable.Querier(mint, maxt)
	return compactedQuerier{q}, err
}

type compactedQuerier struct{ storage.Querier }

func (q compactedQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	return compactedSet{q.Querier.Select(ctx, sorted, hints, matchers...)}
}

type compactedSet struct{ storage.SeriesSet }

func (s compactedSet) At() storage.Series { return compactedSeries{s.SeriesSet.At()} }

type compactedSeries struct{ storage.Series }

func (s compactedSeries) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	return compactedIterator{s.Series.Iterator(nil)}
}

type compactedIterator struct{ chunkenc.Iterator }

func (i compactedIterator) AtFloatHistogram(into *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	t, h := i.Iterator.AtFloatHistogram(nil)
	h = h.Copy().Compact(0)
	if into == nil {
		return t, h
	}
	h.CopyTo(into)
	return t, into
}

func float(text string) float64 {
	if text == "stale" {
		return math.Float64frombits(value.StaleNaN)
	}
	f, _ := strconv.ParseFloat(text, 64)
	return f
}

func text(f float64) string {
	return strconv.FormatFloat(f, 'g', -1, 64)
}

func (n native) histogram() *histogram.FloatHistogram {
	h := &histogram.FloatHistogram{
		Schema:           n.Schema,
		ZeroThreshold:    n.ZeroThreshold,
		ZeroCount:        float(n.ZeroCount),
		Count:            float(n.Count),
		Sum:              float(n.Sum),
		CounterResetHint: histogram.CounterResetHint(n.Hint),
	}
	if len(n.Bounds) > 0 {
		h.CustomValues = n.Bounds
	}
	h.PositiveSpans, h.PositiveBuckets = spans(n.Positive)
	h.NegativeSpans, h.NegativeBuckets = spans(n.Negative)
	return h
}

func spans(buckets [][2]string) (spans []histogram.Span, counts []float64) {
	next := int32(0)
	for i, b := range buckets {
		index, _ := strconv.ParseInt(b[0], 10, 32)
		if i > 0 && int32(index) == next {
			spans[len(spans)-1].Length++
		} else {
			spans = append(spans, histogram.Span{Offset: int32(index) - next, Length: 1})
		}
		next = int32(index) + 1
		counts = append(counts, float(b[1]))
	}
	return spans, counts
}

func buckets(spans []histogram.Span, counts []float64) [][2]string {
	out := [][2]string{}
	index, i := int32(0), 0
	for _, span := range spans {
		index += span.Offset
		for range span.Length {
			out = append(out, [2]string{strconv.Itoa(int(index)), text(counts[i])})
			index++
			i++
		}
	}
	return out
}

func describe(h *histogram.FloatHistogram) native {
	h = h.Copy().Compact(0)
	return native{
		Schema:        h.Schema,
		Bounds:        h.CustomValues,
		ZeroThreshold: h.ZeroThreshold,
		ZeroCount:     text(h.ZeroCount),
		Count:         text(h.Count),
		Sum:           text(h.Sum),
		Positive:      buckets(h.PositiveSpans, h.PositiveBuckets),
		Negative:      buckets(h.NegativeSpans, h.NegativeBuckets),
		Hint:          int(h.CounterResetHint),
	}
}

func (o *oracle) query(c command) (a answer) {
	defer func() {
		if r := recover(); r != nil {
			a = answer{Error: fmt.Sprintf("panic: %v", r)}
		}
	}()
	err := o.evaluate(c, func(result *promql.Result) {
		a = describeResult(result)
		a.Warnings, a.Infos = result.Warnings.AsStrings(c.Query, 0, 0)
	})
	if err != nil {
		return answer{Error: err.Error()}
	}
	if expr, err := queryParser.ParseExpr(c.Query); err == nil {
		a.Printed, a.Pretty = expr.String(), parser.Prettify(expr)
	}
	return a
}

func (o *oracle) evaluate(c command, use func(*promql.Result)) error {
	engine, ctx := o.engines[c.Delayed], context.Background()
	var query promql.Query
	var err error
	if c.Step == 0 {
		query, err = engine.NewInstantQuery(ctx, compacted{o.storage}, nil, c.Query, time.UnixMilli(c.Start))
	} else {
		start, end := time.UnixMilli(c.Start), time.UnixMilli(c.End)
		query, err = engine.NewRangeQuery(ctx, compacted{o.storage}, nil, c.Query, start, end, time.Duration(c.Step)*time.Millisecond)
	}
	if err != nil {
		return err
	}
	defer query.Close()
	result := query.Exec(ctx)
	if result.Err != nil {
		return result.Err
	}
	use(result)
	return nil
}

func describeResult(result *promql.Result) answer {
	switch v := result.Value.(type) {
	case promql.Scalar:
		return answer{Kind: "scalar", Series: []answerSeries{{Points: [][2]any{{v.T, text(v.V)}}}}}
	case promql.String:
		return answer{Kind: "string", Series: []answerSeries{{Points: [][2]any{{v.T, v.V}}}}}
	case promql.Vector:
		a := answer{Kind: "vector"}
		for _, s := range v {
			point := [2]any{s.T, text(s.F)}
			if s.H != nil {
				point[1] = describe(s.H)
			}
			a.Series = append(a.Series, answerSeries{Labels: s.Metric.Map(), Points: [][2]any{point}})
		}
		return a
	case promql.Matrix:
		a := answer{Kind: "matrix"}
		for _, s := range v {
			points := [][2]any{}
			for _, p := range s.Floats {
				points = append(points, [2]any{p.T, text(p.F)})
			}
			for _, p := range s.Histograms {
				points = append(points, [2]any{p.T, describe(p.H)})
			}
			sort.SliceStable(points, func(i, j int) bool { return points[i][0].(int64) < points[j][0].(int64) })
			a.Series = append(a.Series, answerSeries{Labels: s.Metric.Map(), Points: points})
		}
		return a
	}
	return answer{Error: "unknown kind of result"}
}
