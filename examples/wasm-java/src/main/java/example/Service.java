package example;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.util.concurrent.Executors;

/**
 * An HTTP service that carries trace context: it reads the caller's headers, and writes those of its own request to the
 * next service, if there is one. Arguments: MODULE PORT [NEXT]
 */
public final class Service {
    private Service() {}

    public static void main(String[] arguments) throws IOException {
        Tracebaton tracebaton = new Tracebaton(Path.of(arguments[0]));
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[1])), 0);
        HttpClient client = HttpClient.newHttpClient();
        String next = arguments.length > 2 ? arguments[2] : "";
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.createContext("/", exchange -> {
            try (exchange) {
                byte[] answer = next.isEmpty() ? "hello\n".getBytes() : forward(tracebaton, client, next, exchange);
                exchange.sendResponseHeaders(200, answer.length);
                exchange.getResponseBody().write(answer);
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
            }
        });
        server.start();
        System.out.println("listening on http:/" + server.getAddress());
    }

    private static byte[] forward(Tracebaton tracebaton, HttpClient client, String next, HttpExchange exchange)
            throws IOException, InterruptedException {
        var inbound = tracebaton.extract(exchange.getRequestHeaders());
        byte[] span = tracebaton.newChild(inbound.span());
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(next));
        tracebaton.inject(span, inbound, "wasm-java", next).forEach(request::setHeader);
        return client.send(request.build(), BodyHandlers.ofByteArray()).body();
    }
}
