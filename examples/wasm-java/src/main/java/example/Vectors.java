package example;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Optional;

/** The host of the tests: tests/component/hosts.py has the protocol. Argument: MODULE */
public final class Vectors {
    private Vectors() {}

    public static void main(String[] arguments) throws IOException {
        Tracebaton tracebaton = new Tracebaton(Path.of(arguments[0]));
        DataInputStream input = new DataInputStream(System.in);
        DataOutputStream output = new DataOutputStream(System.out);
        while (true) {
            int operation;
            try {
                operation = Integer.reverseBytes(input.readInt());
            } catch (EOFException end) {
                return;
            }
            byte[] given = input.readNBytes(Integer.reverseBytes(input.readInt()));
            Optional<byte[]> answer = tracebaton.call(operation, given);
            output.writeInt(Integer.reverseBytes(answer.map(bytes -> bytes.length).orElse(-1)));
            output.write(answer.orElse(new byte[0]));
            output.flush();
        }
    }
}
