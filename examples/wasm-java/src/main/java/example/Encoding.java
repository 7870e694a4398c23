package example;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Optional;

/** The encoding of values that docs/component.md describes. */
final class Encoding {
    private Encoding() {}

    static final class Writer {
        private final ByteArrayOutputStream out = new ByteArrayOutputStream();

        Writer raw(byte[] bytes) {
            out.writeBytes(bytes);
            return this;
        }

        Writer number(int value) {
            return raw(ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putInt(value).array());
        }

        Writer flag(boolean value) {
            out.write(value ? 1 : 0);
            return this;
        }

        Writer text(String text) {
            byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
            return number(bytes.length).raw(bytes);
        }

        Writer optional(Optional<byte[]> encoded) {
            flag(encoded.isPresent());
            encoded.ifPresent(this::raw);
            return this;
        }

        Writer optionalText(Optional<String> text) {
            flag(text.isPresent());
            text.ifPresent(this::text);
            return this;
        }

        byte[] bytes() {
            return out.toByteArray();
        }
    }

    /** Takes values from the front of what the module returned, which is well-formed. */
    static final class Reader {
        private final ByteBuffer bytes;

        Reader(byte[] bytes) {
            this.bytes = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
        }

        /** Takes the case of a result, which must be the good one. */
        Reader okay() {
            if (bytes.get() != 0) {
                throw new IllegalArgumentException("tracebaton: an argument is not valid");
            }
            return this;
        }

        int number() {
            return bytes.getInt();
        }

        String text() {
            byte[] text = new byte[number()];
            bytes.get(text);
            return new String(text, StandardCharsets.UTF_8);
        }

        Optional<String> optionalText() {
            return bytes.get() == 0 ? Optional.empty() : Optional.of(text());
        }

        /** A span context as it is encoded: two texts, the flags, a text, whether it is remote. */
        Optional<byte[]> optionalSpan() {
            if (bytes.get() == 0) {
                return Optional.empty();
            }
            int from = bytes.position();
            text();
            text();
            bytes.get();
            text();
            bytes.get();
            return Optional.of(Arrays.copyOfRange(bytes.array(), from, bytes.position()));
        }

        byte[] rest() {
            return Arrays.copyOfRange(bytes.array(), bytes.position(), bytes.limit());
        }
    }
}
