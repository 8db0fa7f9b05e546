package main

import (
	flux "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	sigs "sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type judged struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

// kstatus evaluates an object with both libraries: the original, and the one that Flux and Helm 4 use to wait.
func kstatus(object map[string]any) (map[string]judged, error) {
	original, err := sigs.Compute(&unstructured.Unstructured{Object: object})
	if err != nil {
		return nil, err
	}
	forked, err := flux.Compute(&unstructured.Unstructured{Object: object})
	if err != nil {
		return nil, err
	}
	return map[string]judged{
		"cli-utils": {original.Status.String(), original.Message},
		"flux":      {forked.Status.String(), forked.Message},
	}, nil
}
