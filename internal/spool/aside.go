package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// asideFile is a file set aside.
type asideFile struct {
	path string
	size int64
	at   time.Time
	keep bool // of a later version, which can read the file: never removed
}

// laterEnd ends the name of a file of a later version of the format.
const laterEnd = ".later"

// loadAside finds the files set aside earlier.
func (s *Spool) loadAside() {
	s.aside = listAside(s.fs, filepath.Join(s.dir, damagedName))
	bytes := int64(0)
	for _, a := range s.aside {
		bytes += a.size
	}
	s.asides.Store(int64(len(s.aside)))
	s.asideAll.Store(bytes)
}

// listAside returns the files below the directory, oldest first. Inaccessible files are left out.
func listAside(f FS, dir string) []asideFile {
	var files []asideFile
	entries, _ := f.ReadDir(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			files = append(files, listAside(f, path)...)
		} else if info, err := f.Lstat(path); err == nil {
			files = append(files, asideFile{path, info.Size(), info.ModTime(), strings.HasSuffix(path, laterEnd)})
		}
	}
	slices.SortStableFunc(files, func(a, b asideFile) int { return a.at.Compare(b.at) })
	return files
}

// setAside moves a file to the same place below the directory "damaged". An unmovable file stays.
func (s *Spool) setAside(path string, later bool) {
	to, err := s.moveAside(path, later)
	if err != nil {
		s.warn("setting aside", "%s cannot be set aside: %v", path, err)
		return
	}
	size := int64(0)
	if info, err := s.fs.Lstat(to); err == nil {
		size = info.Size()
	}
	s.aside = append(s.aside, asideFile{to, size, time.Now(), later})
	s.asideAll.Add(size)
	s.asides.Add(1)
	s.limitAside()
}

func (s *Spool) moveAside(path string, later bool) (to string, err error) {
	rel, err := filepath.Rel(s.dir, path)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(s.dir, damagedName)
	if err := s.fs.Mkdir(dir); err != nil {
		return "", err
	}
	for part := range strings.SplitSeq(filepath.Dir(rel), string(filepath.Separator)) {
		dir = filepath.Join(dir, part)
		if err := s.fs.Mkdir(dir); err != nil {
			return "", err
		}
	}
	end := ""
	if later {
		end = laterEnd
	}
	to = filepath.Join(dir, filepath.Base(rel)+end)
	for n := 1; ; n++ {
		if _, err := s.fs.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			break
		}
		to = filepath.Join(dir, filepath.Base(rel)+"."+strconv.Itoa(n)+end)
	}
	if err := s.fs.Rename(path, to); err != nil {
		return "", fmt.Errorf("moving: %w", err)
	}
	return to, nil
}

// limitAside removes the oldest files set aside while their size exceeds their part of the limit; the newest
// stays.
func (s *Spool) limitAside() {
	limit := s.limit().MaxBytes / partOfLimit
	for i := 0; limit > 0 && s.asideAll.Load() > limit && i < len(s.aside)-1; {
		a := s.aside[i]
		if a.keep {
			i++
			continue
		}
		if err := s.fs.Remove(a.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.warn("removing up", "what was set aside cannot be removed: %v", err)
			return
		}
		s.warn("removing up", "%s was removed: what is set aside may have %d bytes", a.path, limit)
		s.aside = slices.Delete(s.aside, i, i+1)
		s.asideAll.Add(-a.size)
		s.asides.Add(-1)
	}
}
