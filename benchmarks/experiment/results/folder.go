package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/archive"
	"github.com/cleaveml/cleave/benchmarks/experiment"
)

// Copy is the experiment's file in a folder of results.
func Copy(dir string) string { return filepath.Join(dir, "experiment.yaml") }

// WritePlots writes the plots and the page into a folder of results. A file has
// its name only when it is whole.
func WritePlots(dir string, p Page) error {
	for _, c := range Charts(p.Rows, p.Report.Seed) {
		for _, format := range []string{"svg", "png"} {
			if err := archive.Replace(filepath.Join(dir, c.Name+"."+format), func(w io.Writer) error { return c.Draw(w, format) }); err != nil {
				return err
			}
		}
	}
	return archive.Replace(filepath.Join(dir, "report.html"), p.Write)
}

// ReadFolder reads what a run has left in a folder.
func ReadFolder(dir string) (Page, error) {
	var p Page
	data, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		if _, begun := os.Stat(archive.Journal(dir)); errors.Is(err, os.ErrNotExist) && begun == nil {
			return p, fmt.Errorf("%s: the run has not come to its end; continue it with: cleave experiment run FILE --resume %[1]s", dir)
		}
		return p, fmt.Errorf("no results of an experiment: %w", err)
	}
	if err := json.Unmarshal(data, &p.Report); err != nil {
		return p, fmt.Errorf("%s: report.json: %w", dir, err)
	}
	if p.Rows, err = rowsOf(p.Report); err != nil {
		return p, fmt.Errorf("%s: report.json: %w", dir, err)
	}
	text, err := os.ReadFile(Copy(dir))
	if err != nil {
		return p, fmt.Errorf("no results of an experiment: %w", err)
	}
	p.File, err = experiment.Parse(Copy(dir), text)
	return p, err
}

// rowsOf are a report's rows, as its JSON has them.
func rowsOf(r benchmarks.Report) ([]experiment.Row, error) {
	data, err := json.Marshal(r.Rows)
	if err != nil {
		return nil, err
	}
	var rows []experiment.Row
	err = json.Unmarshal(data, &rows)
	return rows, err
}
