// Package tracebaton reads and writes trace context with the plain tracebaton module, in wazero: no cgo.
package tracebaton

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/http"
	"os"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// Operations of the plain module: docs/component.md has all of them.
const (
	opExtract  = 1
	opInject   = 2
	opNewChild = 3
)

// Module is the compiled module. It may be used by many goroutines: each call has an instance to itself.
type Module struct{ instances sync.Pool }

// Open reads the file of the module and compiles it.
func Open(ctx context.Context, path string) (*Module, error) {
	wasm, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	runtime := wazero.NewRuntime(ctx)
	compiled, err := runtime.CompileModule(ctx, wasm)
	if err != nil {
		return nil, err
	}
	m := &Module{}
	m.instances.New = func() any {
		// It was compiled, and has no imports: what is left to fail is memory.
		instance, err := runtime.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName(""))
		if err != nil {
			panic(err)
		}
		return instance
	}
	return m, nil
}

var errRefused = errors.New("tracebaton: not the arguments of this operation")

// Call runs an operation with encoded arguments.
func (m *Module) Call(ctx context.Context, operation uint32, arguments []byte) ([]byte, error) {
	instance := m.instances.Get().(api.Module)
	defer m.instances.Put(instance)
	memory, length := instance.Memory(), uint64(len(arguments))
	found, err := instance.ExportedFunction("tracebaton_alloc").Call(ctx, length)
	if err != nil {
		return nil, err
	}
	memory.Write(uint32(found[0]), arguments)
	found, err = instance.ExportedFunction("tracebaton_call").Call(ctx, uint64(operation), found[0], length)
	if err != nil {
		return nil, err
	}
	if found[0] == 0 {
		return nil, errRefused
	}
	view, _ := memory.Read(uint32(found[0]>>32), uint32(found[0]))
	result := append([]byte{}, view...)
	_, err = instance.ExportedFunction("tracebaton_free").Call(ctx, found[0]>>32, found[0]&0xffffffff)
	return result, err
}

// Inbound is what a caller sent, as far as this example passes it on. The span is encoded: it only goes back.
type Inbound struct {
	Span             []byte
	Baggage          string
	Session, Project *string
}

// Extract reads the headers of a request.
func (m *Module) Extract(ctx context.Context, header http.Header) (Inbound, error) {
	var pairs []string
	for _, name := range []string{"Traceparent", "Tracestate", "Baggage"} {
		for _, value := range header.Values(name) {
			pairs = append(pairs, name, latin1(value))
		}
	}
	arguments := binary.LittleEndian.AppendUint32(nil, uint32(len(pairs)/2))
	for _, text := range pairs {
		arguments = putText(arguments, text)
	}
	answer, err := m.Call(ctx, opExtract, append(arguments, 0)) // 0: the default policy
	if err != nil {
		return Inbound{}, err
	}
	r := reader{answer}
	span := r.optionalSpan()
	r.optionalSpan() // the link, which the default policy never makes
	return Inbound{Span: span, Baggage: r.text(), Session: r.optionalText(), Project: r.optionalText()}, nil
}

// NewChild makes the context of a span below another one, or of a new trace.
func (m *Module) NewChild(ctx context.Context, parent []byte) ([]byte, error) {
	random := make([]byte, 24)
	if _, err := rand.Read(random); err != nil {
		return nil, err
	}
	answer, err := m.Call(ctx, opNewChild, append(putOptional(random, parent), 0))
	if err != nil || answer[0] != 0 {
		return nil, errors.Join(err, errRefused)
	}
	return answer[1:], nil
}

// Inject writes the headers of a request to a URL.
func (m *Module) Inject(ctx context.Context, header http.Header, span []byte, in Inbound, source, url string) error {
	arguments := putOptional(binary.LittleEndian.AppendUint32(nil, 0), span) // into no headers
	for _, text := range []*string{in.Session, in.Project, &source} {
		arguments = putOptionalText(arguments, text)
	}
	arguments = append(arguments, 0, 0, 0, 0, 0) // nothing of the application's, which is no view of an API
	arguments = append(putText(arguments, in.Baggage), 0)
	answer, err := m.Call(ctx, opInject, append(putOptionalText(arguments, &url), 0))
	if err != nil || answer[0] != 0 {
		return errors.Join(err, errRefused)
	}
	r := reader{answer[1:]}
	for count := r.number(); count > 0; count-- {
		name := r.text()
		header.Set(name, r.text())
	}
	return nil
}
