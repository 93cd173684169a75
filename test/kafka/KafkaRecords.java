/*
 * KafkaRecords.java
 *	  The part of the driver that writes and reads records.
 *
 * Invariant: a producer keeps the order of what it is given and sends each
 * record once, so that what a test sent is what the plain consumer reads.
 */
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

class KafkaRecords {
	private final String servers;
	private final Map<String, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();
	private final Map<String, Job> jobs = new HashMap<>();

	/* Something that goes on while other commands are answered. */
	private static class Job {
		final AtomicBoolean stop = new AtomicBoolean();
		CompletableFuture<ObjectNode> done;
	}

	private interface Work {
		void run(AtomicBoolean stop, ObjectNode result) throws Exception;
	}

	KafkaRecords(String servers) {
		this.servers = servers;
	}

	void run(JsonNode command, ObjectNode answer) throws Exception {
		switch (command.get("do").asText()) {
			case "produce" -> produce(command, answer);
			case "fill" -> work(command, answer, (stop, result) -> fill(command, stop, result));
			case "traffic" -> work(command, answer, (stop, result) -> traffic(command, stop, result));
			case "begin" -> transactional(command).beginTransaction();
			case "commit" -> transactional(command).commitTransaction();
			case "abort" -> transactional(command).abortTransaction();
			case "stop" -> end(command, answer, true);
			case "wait" -> end(command, answer, false);
			case "consume" -> consume(command, answer);
			default -> throw new IllegalArgumentException("unknown command " + command.get("do"));
		}
	}

	/* work runs a command at once, or as the job that its member "job" names */
	private void work(JsonNode command, ObjectNode answer, Work work) throws Exception {
		Job job = new Job();

		if (!command.has("job")) {
			work.run(job.stop, answer);
			return;
		}
		job.done = CompletableFuture.supplyAsync(() -> {
			ObjectNode result = KafkaDriver.json.createObjectNode();
			try {
				work.run(job.stop, result);
			} catch (Exception e) {
				throw new IllegalStateException(e);
			}
			return result;
		});
		jobs.put(command.get("job").asText(), job);
	}

	/* stop, wait: "job"; gives what the job would have answered */
	private void end(JsonNode command, ObjectNode answer, boolean stop) throws Exception {
		Job job = jobs.remove(command.get("job").asText());

		if (stop)
			job.stop.set(true);
		answer.setAll(job.done.get());
	}

	private Properties properties(JsonNode command) {
		Properties properties = new Properties();

		properties.put("bootstrap.servers", servers);
		properties.put("key.serializer", ByteArraySerializer.class.getName());
		properties.put("value.serializer", ByteArraySerializer.class.getName());
		properties.put("acks", "all");
		properties.put("reconnect.backoff.max.ms", "200");
		properties.put("retry.backoff.max.ms", "200");
		properties.put("max.block.ms", "120000");
		properties.put("max.request.size", "200000000");
		properties.putAll(KafkaDriver.texts(command.path("config")));
		return properties;
	}

	/* a producer for each combination of properties, kept */
	private KafkaProducer<byte[], byte[]> producer(JsonNode command) {
		return producers.computeIfAbsent("config " + command.path("config"), k -> new KafkaProducer<>(properties(command)));
	}

	/* begin, commit, abort, and produce: "transaction", its transactional.id */
	private KafkaProducer<byte[], byte[]> transactional(JsonNode command) {
		String id = command.get("transaction").asText();

		return producers.computeIfAbsent("transaction " + id, k -> {
			Properties properties = properties(command);
			properties.put("transactional.id", id);
			KafkaProducer<byte[], byte[]> result = new KafkaProducer<>(properties);
			result.initTransactions();
			return result;
		});
	}

	/*
	 * produce: "messages" [{"topic", "partition", "key" or "key_hex", "value" or
	 * "value_hex", "size" of a made-up value (a string of JSON if "quoted"),
	 * "key_size" of a made-up key, "timestamp", "headers" [{"key", "value",
	 * "value_hex" or "value_size"}]}], "transaction" that was begun, "config" of the
	 * producer; gives "offsets", one a message
	 */
	private void produce(JsonNode command, ObjectNode answer) throws Exception {
		KafkaProducer<byte[], byte[]> producer = command.has("transaction") ? transactional(command) : producer(command);
		List<Future<RecordMetadata>> sent = new ArrayList<>();
		ArrayNode offsets = answer.putArray("offsets");

		for (JsonNode message : command.get("messages"))
			sent.add(producer.send(record(message)));
		producer.flush();
		for (Future<RecordMetadata> one : sent)
			offsets.add(one.get().offset());
	}

	private static ProducerRecord<byte[], byte[]> record(JsonNode message) {
		List<Header> headers = new ArrayList<>();

		for (JsonNode header : message.path("headers"))
			headers.add(new RecordHeader(header.get("key").asText(), bytes(header, "value")));
		return new ProducerRecord<>(message.get("topic").asText(),
				message.has("partition") ? message.get("partition").asInt() : null,
				message.has("timestamp") ? message.get("timestamp").asLong() : null,
				bytes(message, "key"), bytes(message, "value"), headers);
	}

	/* text, JSON as its text, bytes in hex, or null */
	private static byte[] bytes(JsonNode object, String name) {
		JsonNode value = object.path(name);

		if (object.has(name + "_hex"))
			return HexFormat.of().parseHex(object.get(name + "_hex").asText());
		if (object.has(name + "_size"))
			return filler(object.get(name + "_size").asInt(), 0);
		if (name.equals("value") && object.has("size")) {
			byte[] made = filler(object.get("size").asInt(), object.path("seed").asInt());
			if (object.has("quoted"))
				made[0] = made[made.length - 1] = '"';
			return made;
		}
		if (value.isMissingNode() || value.isNull())
			return null;
		return (value.isTextual() ? value.asText() : value.toString()).getBytes(StandardCharsets.UTF_8);
	}

	/* printable text that does not compress to nothing */
	private static byte[] filler(int size, long seed) {
		Random random = new Random(seed);
		byte[] result = new byte[size];

		for (int i = 0; i < size; i++)
			result[i] = (byte) ('a' + random.nextInt(26));
		return result;
	}

	/*
	 * fill: "topic", "partitions", "count", "size", "rate" a second (0), "config":
	 * messages with the key k<number> and a value of that size, evenly over the
	 * partitions; may be a job
	 */
	private void fill(JsonNode command, AtomicBoolean stop, ObjectNode result) throws Exception {
		String topic = command.get("topic").asText();
		int partitions = command.path("partitions").asInt(1);
		int count = command.get("count").asInt();
		double rate = command.path("rate").asDouble(0);
		byte[] filler = filler(command.path("size").asInt(100), 1);
		AtomicReference<Exception> failed = new AtomicReference<>();
		long began = System.nanoTime();
		int i;

		try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(properties(command))) {
			for (i = 0; i < count && !stop.get() && failed.get() == null; i++) {
				byte[] key = ("k" + i).getBytes(StandardCharsets.US_ASCII);
				byte[] value = filler.clone();
				System.arraycopy(key, 0, value, 0, Math.min(key.length, value.length));
				if (rate > 0) {
					long ahead = (long) (i / rate * 1e9) - (System.nanoTime() - began);
					if (ahead > 0)
						Thread.sleep(ahead / 1000000, (int) (ahead % 1000000));
				}
				producer.send(new ProducerRecord<>(topic, i % partitions, key, value), (m, e) -> {
					if (e != null)
						failed.set(e);
				});
			}
		}
		if (failed.get() != null)
			throw failed.get();
		result.put("sent", i);
	}

	/*
	 * traffic: "topic", "partitions", "seed", "rounds" (until stopped), "pause" ms
	 * between rounds: what real producers do, at random.  Several at once, with
	 * and without transactions, which commit or abort; no keys and no values,
	 * empty ones, bytes that are no text, headers.  One that the cluster fails
	 * gives up what it has open and begins again.  May be a job; gives how many
	 * records were "sent", transactions "committed", "aborted" and "failed".
	 */
	private void traffic(JsonNode command, AtomicBoolean stop, ObjectNode result) throws Exception {
		Random random = new Random(command.get("seed").asLong());
		int rounds = command.path("rounds").asInt(Integer.MAX_VALUE);
		int pause = command.path("pause").asInt(0);
		Writer[] writers = new Writer[3];

		for (int i = 0; i < writers.length; i++)
			writers[i] = new Writer(command, i, random);
		for (int round = 0; round < rounds && !stop.get(); round++) {
			writers[random.nextInt(writers.length)].round();
			if (pause > 0)
				Thread.sleep(pause);
		}
		int[] counts = new int[4];
		for (Writer writer : writers) {
			writer.end();
			for (int i = 0; i < counts.length; i++)
				counts[i] += writer.counts[i];
		}
		result.put("sent", counts[0]).put("committed", counts[1]).put("aborted", counts[2]).put("failed", counts[3]);
	}

	/* One of the producers of traffic: number 0 is without transactions. */
	private class Writer {
		private final JsonNode command;
		private final Random random;
		private final String id;
		private KafkaProducer<byte[], byte[]> producer;
		private boolean open;
		final int[] counts = new int[4];	// sent, committed, aborted, failed

		Writer(JsonNode command, int number, Random random) {
			this.command = command;
			this.random = random;
			this.id = number == 0 ? null : command.get("topic").asText() + number;
		}

		private void begin() {
			if (producer == null) {
				Properties properties = properties(command);
				properties.put("delivery.timeout.ms", "120000");
				properties.put("transaction.timeout.ms", "120000");
				if (id != null)
					properties.put("transactional.id", id);
				producer = new KafkaProducer<>(properties);
				if (id != null)
					producer.initTransactions();
			}
			if (id != null && !open)
				producer.beginTransaction();
			open = true;
		}

		void round() {
			try {
				begin();
				for (int n = 1 + random.nextInt(20); n > 0; n--) {
					producer.send(randomRecord(command, random, counts[0]));
					counts[0]++;
				}
				// left open now and then, so that they interleave
				if (id != null && random.nextInt(3) > 0)
					finish();
			} catch (KafkaException e) {
				giveUp();
			}
		}

		private void finish() {
			if (random.nextInt(5) < 2) {
				producer.flush();	// or nothing would have reached the log
				producer.abortTransaction();
				counts[2]++;
			} else {
				producer.commitTransaction();
				counts[1]++;
			}
			open = false;
		}

		/* the next producer of this name ends the transaction, or the broker in time */
		private void giveUp() {
			counts[3]++;
			open = false;
			if (producer != null)
				producer.close(Duration.ZERO);
			producer = null;
		}

		/* leaves no transaction open */
		void end() {
			for (int attempt = 0; attempt < 3; attempt++) {
				try {
					if (id != null) {
						begin();
						finish();
					}
					if (producer != null)
						producer.close(Duration.ofSeconds(60));
					return;
				} catch (KafkaException e) {
					giveUp();
				}
			}
		}
	}

	private static ProducerRecord<byte[], byte[]> randomRecord(JsonNode command, Random random, int number) {
		byte[] key = random.nextInt(10) == 0 ? null : ("k" + random.nextInt(1000)).getBytes(StandardCharsets.US_ASCII);
		byte[] value = ("v" + number + "/" + random.nextLong() + "\u00e4\u4e16").getBytes(StandardCharsets.UTF_8);
		List<Header> headers = new ArrayList<>();

		switch (random.nextInt(20)) {
			case 0 -> value = null;
			case 1 -> value = new byte[0];
			case 2 -> value[0] = (byte) 0xff;
			case 3 -> value[0] = 0;
			case 4 -> value = filler(random.nextInt(20000), number);
			case 5 -> headers.add(new RecordHeader("h", value));
			default -> { }
		}
		return new ProducerRecord<>(command.get("topic").asText(),
				random.nextInt(command.path("partitions").asInt(1)), null, key, value, headers);
	}

	/*
	 * consume: "topics", "file": reads all partitions from their beginning to the
	 * end that they have now, only what is committed, and writes a line for COPY
	 * per record: topic, partition, offset, md5 of key and value (\N without
	 * one), timestamp, number of headers; gives their number as "count"
	 */
	private void consume(JsonNode command, ObjectNode answer) throws Exception {
		Properties properties = new Properties();
		List<TopicPartition> all = new ArrayList<>();
		long deadline = System.currentTimeMillis() + 120000;
		long count = 0;

		properties.put("bootstrap.servers", servers);
		properties.put("isolation.level", "read_committed");
		properties.put("auto.offset.reset", "none");
		properties.put("enable.auto.commit", "false");
		// a larger record comes all the same, alone
		properties.put("fetch.max.bytes", "50000000");
		properties.put("max.partition.fetch.bytes", "50000000");
		try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
				BufferedWriter out = Files.newBufferedWriter(Path.of(command.get("file").asText()))) {
			for (JsonNode topic : command.get("topics")) {
				for (PartitionInfo info : consumer.partitionsFor(topic.asText()))
					all.add(new TopicPartition(info.topic(), info.partition()));
			}
			consumer.assign(all);
			consumer.seekToBeginning(all);
			Map<TopicPartition, Long> ends = consumer.endOffsets(all);
			while (!ends.entrySet().stream().allMatch(e -> consumer.position(e.getKey()) >= e.getValue())) {
				if (System.currentTimeMillis() > deadline)
					throw new IllegalStateException("the plain consumer does not come to the end");
				for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
					if (record.offset() < ends.get(new TopicPartition(record.topic(), record.partition()))) {
						write(out, record);
						count++;
					}
				}
			}
		}
		answer.put("count", count);
	}

	private static void write(BufferedWriter out, ConsumerRecord<byte[], byte[]> record) throws Exception {
		out.write(record.topic() + "\t" + record.partition() + "\t" + record.offset() + "\t" + hash(record.key()) + "\t"
				+ hash(record.value()) + "\t" + record.timestamp() + "\t" + record.headers().toArray().length + "\n");
	}

	private static String hash(byte[] bytes) throws Exception {
		return bytes == null ? "\\N" : HexFormat.of().formatHex(MessageDigest.getInstance("MD5").digest(bytes));
	}
}
