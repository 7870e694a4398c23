package example;

import com.dylibso.chicory.compiler.MachineFactoryCompiler;
import com.dylibso.chicory.runtime.Instance;
import com.dylibso.chicory.runtime.Machine;
import com.dylibso.chicory.wasm.Parser;
import com.dylibso.chicory.wasm.WasmModule;
import java.nio.file.Path;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.function.Function;

/** Reads and writes trace context with the plain tracebaton module, in Chicory: no JNI. Threads may share it. */
public final class Tracebaton {
    // Operations of the plain module: docs/component.md has all of them.
    private static final int EXTRACT = 1;
    private static final int INJECT = 2;
    private static final int NEW_CHILD = 3;

    private final WasmModule module;
    private final Function<Instance, Machine> machine;
    private final ConcurrentLinkedQueue<Instance> idle = new ConcurrentLinkedQueue<>();
    private final SecureRandom random = new SecureRandom();

    /** Compiles the module in this file. */
    public Tracebaton(Path wasm) {
        module = Parser.parse(wasm);
        machine = MachineFactoryCompiler.compile(module);
    }

    /** What a caller sent, as far as this example passes it on. The span is encoded: it only goes back. */
    public record Inbound(Optional<byte[]> span, String baggage, Optional<String> session, Optional<String> project) {}

    /** Runs an operation with encoded arguments; none if they are not its arguments. */
    public Optional<byte[]> call(int operation, byte[] arguments) {
        Instance instance = Optional.ofNullable(idle.poll())
                .orElseGet(() -> Instance.builder(module).withMachineFactory(machine).build());
        var memory = instance.memory();
        long pointer = instance.export("tracebaton_alloc").apply(arguments.length)[0];
        memory.write((int) pointer, arguments);
        long packed = instance.export("tracebaton_call").apply(operation, pointer, arguments.length)[0];
        Optional<byte[]> result = Optional.empty();
        if (packed != 0) {
            long length = packed & 0xffffffffL;
            result = Optional.of(memory.readBytes((int) (packed >>> 32), (int) length));
            instance.export("tracebaton_free").apply(packed >>> 32, length);
        }
        // Where a call threw, the instance is not used again.
        idle.add(instance);
        return result;
    }

    /** Reads the headers of a request. */
    public Inbound extract(Map<String, List<String>> headers) {
        List<String> pairs = new ArrayList<>();
        headers.forEach((name, values) -> values.forEach(value -> pairs.addAll(List.of(name, value))));
        Encoding.Writer arguments = new Encoding.Writer().number(pairs.size() / 2);
        pairs.forEach(arguments::text);
        arguments.flag(false); // the default policy
        Encoding.Reader answer = new Encoding.Reader(call(EXTRACT, arguments.bytes()).orElseThrow());
        Optional<byte[]> span = answer.optionalSpan();
        answer.optionalSpan(); // the link, which the default policy never makes
        return new Inbound(span, answer.text(), answer.optionalText(), answer.optionalText());
    }

    /** Makes the context of a span below another one, or of a new trace. */
    public byte[] newChild(Optional<byte[]> parent) {
        byte[] numbers = new byte[24];
        random.nextBytes(numbers);
        byte[] arguments = new Encoding.Writer().raw(numbers).optional(parent).flag(false).bytes();
        return new Encoding.Reader(call(NEW_CHILD, arguments).orElseThrow()).okay().rest();
    }

    /** The headers of a request to a URL. */
    public Map<String, String> inject(byte[] span, Inbound in, String source, String url) {
        Encoding.Writer arguments = new Encoding.Writer().number(0); // into no headers
        arguments.optional(Optional.of(span)).optionalText(in.session()).optionalText(in.project());
        arguments.optionalText(Optional.of(source));
        arguments.number(0).flag(false); // nothing of the application's, which is no view of an API
        arguments.text(in.baggage()).flag(false).optionalText(Optional.of(url)).flag(false);
        Encoding.Reader answer = new Encoding.Reader(call(INJECT, arguments.bytes()).orElseThrow()).okay();
        Map<String, String> headers = new java.util.TreeMap<>();
        for (int count = answer.number(); count > 0; count--) {
            String name = answer.text();
            headers.put(name, answer.text());
        }
        return headers;
    }
}
