package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/nodes/ort"
	"github.com/cleaveml/cleave/nodes/ort/library"
)

func newSetup() *cobra.Command {
	return &cobra.Command{
		Use:   "setup",
		Short: "Fetch ONNX Runtime, once",
		Long: `Take the library of ONNX Runtime ` + library.Version + ` out of the npm package onnxruntime-node with
the npm client, check it against the digest built into Cleave and keep it in the
user's cache folder. A second run needs no network. ` + library.Variable + ` names
another library of that version to use instead.`,
		Example: "  cleave setup",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := library.Fetch(c.Context(), func(s string) { fmt.Fprintln(c.ErrOrStderr(), s) })
			if err != nil {
				return err
			}
			rt, err := ort.Open(ort.Config{Library: path})
			if err != nil {
				return err
			}
			defer rt.Close()
			fmt.Fprintf(c.OutOrStdout(), "ONNX Runtime %s: %s\n", rt.Version(), path)
			return nil
		},
	}
}
