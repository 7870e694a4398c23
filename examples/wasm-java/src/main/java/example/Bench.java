package example;

import io.opentelemetry.api.baggage.propagation.W3CBaggagePropagator;
import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator;
import io.opentelemetry.context.Context;
import io.opentelemetry.context.propagation.TextMapGetter;
import io.opentelemetry.context.propagation.TextMapPropagator;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * Calls per second of extract and inject, beside OpenTelemetry's propagator for Java: prints one JSON line per round, the
 * module and its peer in turn. Arguments: MODULE ROUNDS MILLISECONDS
 */
public final class Bench {
    private Bench() {}

    private static final TextMapGetter<Map<String, String>> GETTER = new TextMapGetter<>() {
        @Override
        @SuppressWarnings("deprecation")
        public Iterable<String> keys(Map<String, String> carrier) {
            return carrier.keySet();
        }

        @Override
        public String get(Map<String, String> carrier, String key) {
            return carrier.get(key);
        }
    };

    private static double perSecond(int millis, Runnable f) {
        long start = System.nanoTime();
        long calls = 0;
        while (System.nanoTime() - start < millis * 1_000_000L) {
            for (int i = 0; i < 20; i++) {
                f.run();
            }
            calls += 20;
        }
        return calls * 1e9 / (System.nanoTime() - start);
    }

    public static void main(String[] arguments) {
        Tracebaton tracebaton = new Tracebaton(Path.of(arguments[0]));
        Map<String, String> headers = Map.of(
                "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "tracestate", "vendor=1,other=2",
                "baggage", "session_id=4f1e2d3c,user=alice,plan=pro");
        Map<String, List<String>> lists = new HashMap<>();
        headers.forEach((name, value) -> lists.put(name, List.of(value)));
        TextMapPropagator peer = TextMapPropagator.composite(
                W3CTraceContextPropagator.getInstance(), W3CBaggagePropagator.getInstance());
        Runnable ours = () -> {
            Tracebaton.Inbound inbound = tracebaton.extract(lists);
            Optional<byte[]> span = inbound.span();
            tracebaton.inject(span.orElseThrow(), inbound, "java", "http://localhost/");
        };
        Runnable theirs = () -> {
            Context context = peer.extract(Context.root(), headers, GETTER);
            peer.inject(context, new HashMap<String, String>(), Map::put);
        };
        int millis = Integer.parseInt(arguments[2]);
        // Java compiles what runs often, step by step: with a module's functions that takes some seconds.
        perSecond(Math.max(10_000, millis), ours);
        perSecond(millis, theirs);
        for (int round = 0; round < Integer.parseInt(arguments[1]); round++) {
            System.out.printf(java.util.Locale.ROOT, "{\"ours\": %f, \"peer\": %f}%n",
                    perSecond(millis, ours), perSecond(millis, theirs));
        }
    }
}
