import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.FileReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.StreamPartitioner;
import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.state.Stores;

/**
 * The consent join as one writes it with Kafka Streams: results join the owners' last decisions,
 * which a GlobalKTable keeps in memory; all go to one topic, those of owners who opted in to
 * another as well, in the partition that they came from.
 *
 * <p>It does less than ours: no replay is recognised, no decision is waited for, nothing expires,
 * no original is read again.  Arguments: a file of settings; topics of results, decisions,
 * output, and what is kept.  Prints "ready" once it runs.
 */
public final class Join {
  private record Result(byte[] image, String account, int partition, boolean granted) {
    Result decided(boolean now) {
      return new Result(image, account, partition, now);
    }
  }

  /** What only the record around the value knows: whose it is, and where it came from. */
  private static final class Placed extends ContextualFixedKeyProcessor<byte[], byte[], Result> {
    @Override
    public void process(FixedKeyRecord<byte[], byte[]> each) {
      byte[] account = each.headers().lastHeader("ce_account").value();
      int partition = context().recordMetadata().orElseThrow().partition();
      String name = new String(account, StandardCharsets.UTF_8);
      context().forward(each.withValue(new Result(each.value(), name, partition, false)));
    }
  }

  private static final ObjectMapper JSON = new ObjectMapper();

  private static boolean isGrant(byte[] decision) {
    try {
      return decision != null && JSON.readTree(decision).path("decision").asText().equals("granted");
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  public static void main(String[] arguments) throws Exception {
    Properties settings = new Properties();
    try (FileReader file = new FileReader(arguments[0])) {
      settings.load(file);
    }
    Serde<byte[]> bytes = Serdes.ByteArray();
    StreamsBuilder builder = new StreamsBuilder();
    GlobalKTable<String, Boolean> granted =
        builder.globalTable(
            arguments[2],
            Materialized.<String, Boolean>as(Stores.inMemoryKeyValueStore("consent"))
                .withKeySerde(Serdes.String())
                .withValueSerde(
                    Serdes.serdeFrom(
                        (topic, grant) -> {
                          throw new UnsupportedOperationException("decisions are only read");
                        },
                        (topic, decision) -> isGrant(decision))));
    var decided =
        builder.stream(arguments[1], Consumed.with(bytes, bytes))
            .processValues(Placed::new)
            .leftJoin(
                granted,
                (key, result) -> result.account(),
                (result, grant) -> result.decided(grant != null && grant));
    StreamPartitioner<byte[], Result> same =
        (topic, key, result, count) -> Optional.of(Set.of(result.partition()));
    Serde<Result> image = Serdes.serdeFrom((topic, result) -> result.image(), (topic, data) -> null);
    Produced<byte[], Result> placed = Produced.with(bytes, image).withStreamPartitioner(same);
    decided.to(arguments[3], placed);
    decided.filter((key, result) -> result.granted()).to(arguments[4], Produced.with(bytes, image));
    run(new KafkaStreams(builder.build(settings), settings));
  }

  private static void run(KafkaStreams streams) throws InterruptedException {
    CountDownLatch ended = new CountDownLatch(1);
    streams.setStateListener(
        (now, before) -> {
          if (now == KafkaStreams.State.RUNNING) {
            System.out.println("ready");
          } else if (now == KafkaStreams.State.ERROR) {
            ended.countDown();
          }
        });
    Runtime.getRuntime()
        .addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
    streams.start();
    ended.await();
    System.exit(1);
  }
}
