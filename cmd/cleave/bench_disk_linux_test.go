package main

import (
	"os"
	"strconv"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// disk is the command "disk FOLDER KB": a file system of that size is mounted in
// the folder, or gets that size.
func disk(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	kb, err := strconv.Atoi(args[1])
	ts.Check(err)
	err = os.Mkdir(dir, 0o700)
	flags := uintptr(0)
	if os.IsExist(err) {
		flags = syscall.MS_REMOUNT
	} else {
		ts.Check(err)
		ts.Defer(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	}
	ts.Check(syscall.Mount("tmpfs", dir, "tmpfs", flags, "size="+strconv.Itoa(kb)+"k"))
}

// canMount says whether this process may mount file systems.
func canMount() bool {
	if os.Geteuid() != 0 {
		return false
	}
	dir, err := os.MkdirTemp("", "cleave-mount-")
	if err != nil {
		return false
	}
	defer func() { _ = os.Remove(dir) }()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4k"); err != nil {
		return false
	}
	return syscall.Unmount(dir, 0) == nil
}
