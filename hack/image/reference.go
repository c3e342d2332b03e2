package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// referenceOfChart returns the name under which the chart in dir asks for the
// image, so that what is built is what is installed.
func referenceOfChart(dir string) (string, error) {
	var chart struct {
		AppVersion string `json:"appVersion"`
	}
	var values struct {
		Images struct {
			Local struct {
				Registry string `json:"registry"`
				Image    string `json:"image"`
				Tag      string `json:"tag"`
			} `json:"local"`
		} `json:"images"`
	}
	if err := read(filepath.Join(dir, "Chart.yaml"), &chart); err != nil {
		return "", err
	}
	if err := read(filepath.Join(dir, "values.yaml"), &values); err != nil {
		return "", err
	}
	image := values.Images.Local
	if image.Tag == "" {
		image.Tag = chart.AppVersion
	}
	if image.Registry == "" || image.Image == "" || image.Tag == "" {
		return "", fmt.Errorf("reading %s: the image has no full name: %+v", dir, image)
	}
	return fmt.Sprintf("%s/%s:%s", image.Registry, image.Image, image.Tag), nil
}

func read(file string, into any) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(content, into); err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	return nil
}

// cutTag splits a reference into its name and tag. The port of a registry is no tag.
func cutTag(reference string) (name, tag string, found bool) {
	at := strings.LastIndexByte(reference, ':')
	if at < 0 || strings.Contains(reference[at:], "/") {
		return reference, "", false
	}
	return reference[:at], reference[at+1:], true
}
