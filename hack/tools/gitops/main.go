// Command gitops-judge evaluates objects with the code of GitOps tools: kstatus with kubectl's library and with that of
// Flux and Helm, and Lua scripts in an interpreter that is set up like Argo CD's.
//
// It reads one JSON list of questions from standard input and writes one JSON list of answers, in the same order. It
// must never read a file or use the network: the tests pass it scripts and objects.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	kubejson "k8s.io/apimachinery/pkg/util/json"
)

type question struct {
	// One of "kstatus", "health", "discovery", "action".
	Ask    string `json:"ask"`
	Script string `json:"script"`
	Object object `json:"object"`
}

// object keeps integers as integers, as every Kubernetes client does.
type object map[string]any

func (o *object) UnmarshalJSON(text []byte) error {
	return kubejson.Unmarshal(text, (*map[string]any)(o))
}

type answer struct {
	Error string `json:"error,omitempty"`
	Value any    `json:"value,omitempty"`
}

func main() {
	var questions []question
	if err := json.NewDecoder(os.Stdin).Decode(&questions); err != nil {
		fmt.Fprintln(os.Stderr, "gitops-judge: standard input must be a JSON list of {ask, script, object}:", err)
		os.Exit(2)
	}
	answers := make([]answer, 0, len(questions))
	for _, asked := range questions {
		value, err := judge(asked)
		if err != nil {
			answers = append(answers, answer{Error: err.Error()})
			continue
		}
		answers = append(answers, answer{Value: value})
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		fmt.Fprintln(os.Stderr, "gitops-judge:", err)
		os.Exit(1)
	}
}

func judge(asked question) (any, error) {
	switch asked.Ask {
	case "kstatus":
		return kstatus(asked.Object)
	case "health":
		return health(asked.Object, asked.Script)
	case "discovery":
		return run(asked.Object, asked.Script)
	case "action":
		return action(asked.Object, asked.Script)
	}
	return nil, fmt.Errorf("ask is %q; it must be kstatus, health, discovery or action", asked.Ask)
}
