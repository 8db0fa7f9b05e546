package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	jsonpatch "github.com/evanphx/json-patch"
	lua "github.com/yuin/gopher-lua"
	luajson "layeh.com/gopher-json"
)

// Argo CD gives a script from argocd-cm one second and no libraries except package, base, table and two functions of os
// (our scripts need only time): no string, no math (argo-cd util/lua/lua.go runLuaWithResourceActionParameters, util/lua/oslib_safe.go).
const patience = time.Second

func run(object map[string]any, script string) (any, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
		{lua.OsLibName, openSafeOS},
	} {
		call := lua.P{Fn: state.NewFunction(library.open), NRet: 0, Protect: true}
		if err := state.CallByParam(call, lua.LString(library.name)); err != nil {
			return nil, err
		}
	}
	// Argo CD registers its os among the functions of table by mistake (OpenSafeOs), so only require finds it.
	state.PreloadModule(lua.OsLibName, loadSafeOS)
	limited, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	state.SetContext(limited)
	state.SetGlobal("actionParams", state.CreateTable(0, 0))
	state.SetGlobal("obj", decode(state, object))
	if err := state.DoString(script); err != nil {
		return nil, err
	}
	returned := state.Get(-1)
	if returned.Type() != lua.LTTable {
		return nil, fmt.Errorf("expect table output from Lua script, not %s", returned.Type())
	}
	encoded, err := luajson.Encode(returned)
	if err != nil {
		return nil, err
	}
	var value any
	err = json.Unmarshal(encoded, &value)
	return value, err
}

// health is what Argo CD shows. Argo CD turns an invalid status into Unknown, so it is an error here.
func health(object map[string]any, script string) (any, error) {
	value, err := run(object, script)
	if err != nil {
		return nil, err
	}
	result, _ := value.(map[string]any)
	switch result["status"] {
	case "Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown":
		return value, nil
	}
	return nil, fmt.Errorf("Lua returned an invalid health status: %v", result["status"])
}

// action returns the merge patch that Argo CD sends (server/application patchResource).
func action(object map[string]any, script string) (any, error) {
	value, err := run(object, script)
	if err != nil {
		return nil, err
	}
	returned, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the action must return the object, not a list")
	}
	live, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	wanted, err := json.Marshal(clean(returned, object))
	if err != nil {
		return nil, err
	}
	patch, err := jsonpatch.CreateMergePatch(live, wanted)
	if err != nil {
		return nil, err
	}
	return json.RawMessage(patch), nil
}

// clean restores the type of empty values: Lua has one empty table for {} and [] (Argo CD's cleanReturnedObj).
func clean(returned, live any) any {
	switch was := live.(type) {
	case map[string]any:
		switch is := returned.(type) {
		case map[string]any:
			for key, value := range is {
				if before, ok := was[key]; ok {
					is[key] = clean(value, before)
				}
			}
		case []any:
			if len(is) == 0 {
				return map[string]any{}
			}
		}
	case []any:
		if is, ok := returned.([]any); ok {
			for at := range min(len(is), len(was)) {
				is[at] = clean(is[at], was[at])
			}
		}
	}
	return returned
}

func decode(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case string:
		return lua.LString(value)
	case []any:
		table := state.CreateTable(len(value), 0)
		for _, item := range value {
			table.Append(decode(state, item))
		}
		return table
	case map[string]any:
		table := state.CreateTable(0, len(value))
		for key, item := range value {
			table.RawSetH(lua.LString(key), decode(state, item))
		}
		return table
	}
	return lua.LNil
}

var safeOS = map[string]lua.LGFunction{
	"time": func(state *lua.LState) int {
		state.Push(lua.LNumber(time.Now().Unix()))
		return 1
	},
}

func openSafeOS(state *lua.LState) int {
	state.Push(state.RegisterModule(lua.TabLibName, safeOS))
	return 1
}

func loadSafeOS(state *lua.LState) int {
	state.Push(state.SetFuncs(state.NewTable(), safeOS))
	return 1
}
