// The host of the tests: tests/component/hosts.py has the protocol. Usage: vectors MODULE
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"log"
	"math"
	"os"

	"wasm-go/tracebaton"
)

func main() {
	ctx := context.Background()
	module, err := tracebaton.Open(ctx, os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	input, output := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	for {
		head := make([]byte, 8)
		if _, err := io.ReadFull(input, head); err != nil {
			return
		}
		arguments := make([]byte, binary.LittleEndian.Uint32(head[4:]))
		if _, err := io.ReadFull(input, arguments); err != nil {
			log.Fatal(err)
		}
		answer, err := module.Call(ctx, binary.LittleEndian.Uint32(head), arguments)
		length := uint32(len(answer))
		if err != nil {
			length = math.MaxUint32
		}
		output.Write(binary.LittleEndian.AppendUint32(nil, length))
		output.Write(answer)
		output.Flush()
	}
}
