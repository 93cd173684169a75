/*
 * KafkaDriver.java
 *	  What the tests do with a cluster, in one process that stays: Kafka's own
 *	  administration, producers and a plain consumer.
 *
 * Reads one JSON object a line and answers each with one: {"ok": true, ...} or
 * {"error": "..."}.  The member "do" names the command; the methods below the
 * dispatcher say which members each one takes.  Ends with its standard input.
 *
 * Start: java -cp 'classes:lib/*' KafkaDriver SERVERS
 */
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.ListOffsetsResult;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

public class KafkaDriver {
	static final ObjectMapper json = new ObjectMapper();
	private static final long LIMIT_MS = 180000;

	private final Admin admin;
	private final KafkaRecords records;

	KafkaDriver(String servers) {
		Properties properties = new Properties();
		properties.put("bootstrap.servers", servers);
		// brokers come and go here
		properties.put("reconnect.backoff.max.ms", "200");
		properties.put("default.api.timeout.ms", "60000");
		properties.put("request.timeout.ms", "10000");
		admin = Admin.create(properties);
		records = new KafkaRecords(servers);
	}

	public static void main(String[] args) throws Exception {
		PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
		BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
		KafkaDriver driver = new KafkaDriver(args[0]);
		String line;

		System.setOut(System.err);
		out.println("{\"ok\": true}");
		while ((line = in.readLine()) != null) {
			ObjectNode answer = json.createObjectNode();
			try {
				driver.run(json.readTree(line), answer);
				answer.put("ok", true);
			} catch (Exception e) {
				Throwable cause = e instanceof ExecutionException ? e.getCause() : e;
				answer.put("error", cause.toString());
			}
			out.println(answer);
		}
		// closing producers in good order is not worth the time
		Runtime.getRuntime().halt(0);
	}

	private void run(JsonNode command, ObjectNode answer) throws Exception {
		switch (command.get("do").asText()) {
			case "ready" -> ready(command);
			case "create" -> create(command);
			case "delete" -> delete(command);
			case "partitions" -> addPartitions(command);
			case "config" -> config(command);
			case "delete_records" -> deleteRecords(command);
			case "move" -> move(command);
			case "elect" -> elect(command);
			case "describe" -> describe(command, answer);
			case "ends" -> ends(command, answer);
			case "quorum" -> answer.put("leader", admin.describeMetadataQuorum().quorumInfo().get().leaderId());
			case "deny" -> deny(command);
			case "user" -> user(command);
			default -> records.run(command, answer);
		}
	}

	/* ready: waits until as many as "nodes" brokers are there */
	private void ready(JsonNode command) throws Exception {
		int wanted = command.get("nodes").asInt();
		poll("brokers", () -> admin.describeCluster().nodes().get().size() >= wanted);
	}

	private interface Condition {
		boolean met() throws Exception;
	}

	/* poll waits for a condition, whatever errors there are on the way */
	private static void poll(String what, Condition condition) throws Exception {
		long deadline = System.currentTimeMillis() + LIMIT_MS;
		Exception last = null;

		while (System.currentTimeMillis() < deadline) {
			try {
				if (condition.met())
					return;
				last = null;
			} catch (ExecutionException e) {
				last = e;
			}
			Thread.sleep(20);
		}
		throw new IllegalStateException("waited too long for " + what + (last == null ? "" : ": " + last.getCause()));
	}

	private TopicDescription topic(String name) throws Exception {
		return admin.describeTopics(List.of(name)).allTopicNames().get().get(name);
	}

	/*
	 * waitForLeaders waits until the leaders of all partitions are known, and serve
	 * them: one that is asked for its offsets refuses until it has made the log.
	 * Before that a producer that has several batches on their way may have the
	 * first refused and the second taken, which nobody mends: the second is the
	 * first that the log knows of, and the first is out of order from then on.
	 */
	private void waitForLeaders(String name, int partitions) throws Exception {
		poll("leaders of " + name, () -> {
			TopicDescription topic = topic(name);
			return topic.partitions().size() == partitions
					&& topic.partitions().stream().allMatch(p -> p.leader() != null && !p.leader().isEmpty());
		});
		offsets(name, partitions, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED, json.createObjectNode());
	}

	/* create: "topic", "partitions" (1), "replicas" (1) or "assign" {"0": [nodes]}, "config" */
	private void create(JsonNode command) throws Exception {
		String name = command.get("topic").asText();
		int partitions = command.path("partitions").asInt(1);
		NewTopic topic;

		if (command.has("assign")) {
			Map<Integer, List<Integer>> assign = new HashMap<>();
			command.get("assign").fields().forEachRemaining(e -> assign.put(Integer.valueOf(e.getKey()), numbers(e.getValue())));
			topic = new NewTopic(name, assign);
			partitions = assign.size();
		} else
			topic = new NewTopic(name, Optional.of(partitions), Optional.of((short) command.path("replicas").asInt(1)));
		topic.configs(texts(command.path("config")));
		admin.createTopics(List.of(topic)).all().get();
		waitForLeaders(name, partitions);
	}

	private static List<Integer> numbers(JsonNode array) {
		List<Integer> result = new ArrayList<>();
		array.forEach(n -> result.add(n.asInt()));
		return result;
	}

	static Map<String, String> texts(JsonNode object) {
		Map<String, String> result = new HashMap<>();
		object.fields().forEachRemaining(e -> result.put(e.getKey(), e.getValue().asText()));
		return result;
	}

	/* delete: "topic", and waits until it is gone */
	private void delete(JsonNode command) throws Exception {
		String name = command.get("topic").asText();
		admin.deleteTopics(List.of(name)).all().get();
		poll("deletion of " + name, () -> !admin.listTopics().names().get().contains(name));
	}

	/* partitions: "topic", "count" that it has afterwards */
	private void addPartitions(JsonNode command) throws Exception {
		String name = command.get("topic").asText();
		int count = command.get("count").asInt();
		admin.createPartitions(Map.of(name, NewPartitions.increaseTo(count))).all().get();
		waitForLeaders(name, count);
	}

	/* config: "topic" or "node", "set" {"name": "value"} */
	private void config(JsonNode command) throws Exception {
		ConfigResource what = command.has("topic")
				? new ConfigResource(ConfigResource.Type.TOPIC, command.get("topic").asText())
				: new ConfigResource(ConfigResource.Type.BROKER, command.path("node").asText(""));
		Collection<AlterConfigOp> changes = new ArrayList<>();
		texts(command.get("set")).forEach(
				(k, v) -> changes.add(new AlterConfigOp(new ConfigEntry(k, v), AlterConfigOp.OpType.SET)));
		admin.incrementalAlterConfigs(Map.of(what, changes)).all().get();
	}

	/* delete_records: "topic", "before" {"partition": first offset that stays} */
	private void deleteRecords(JsonNode command) throws Exception {
		String name = command.get("topic").asText();
		Map<TopicPartition, RecordsToDelete> before = new HashMap<>();
		command.get("before").fields().forEachRemaining(e -> before.put(
				new TopicPartition(name, Integer.parseInt(e.getKey())),
				RecordsToDelete.beforeOffset(e.getValue().asLong())));
		admin.deleteRecords(before).all().get();
	}

	/* move: "topic", "partition", "replicas" [nodes]; the first one becomes the leader */
	private void move(JsonNode command) throws Exception {
		TopicPartition partition = new TopicPartition(command.get("topic").asText(), command.get("partition").asInt());
		List<Integer> replicas = numbers(command.get("replicas"));

		admin.alterPartitionReassignments(Map.of(partition, Optional.of(new NewPartitionReassignment(replicas)))).all().get();
		poll("move", () -> admin.listPartitionReassignments().reassignments().get().isEmpty());
		elect(partition, ElectionType.PREFERRED);
		poll("leader", () -> topic(partition.topic()).partitions().get(partition.partition()).leader().id() == replicas.get(0));
	}

	/* elect: "topic", "partition", "type" (PREFERRED or UNCLEAN) */
	private void elect(JsonNode command) throws Exception {
		elect(new TopicPartition(command.get("topic").asText(), command.get("partition").asInt()),
				ElectionType.valueOf(command.get("type").asText()));
	}

	private void elect(TopicPartition partition, ElectionType type) throws Exception {
		try {
			for (Optional<Throwable> error : admin.electLeaders(type, Set.of(partition)).partitions().get().values()) {
				if (error.isPresent() && !(error.get() instanceof ElectionNotNeededException))
					throw new IllegalStateException(error.get());
			}
		} catch (ExecutionException e) {
			if (!(e.getCause() instanceof ElectionNotNeededException))
				throw e;
		}
	}

	/* describe: "topic"; gives "id" and "partitions" [{"leader", "replicas", "isr"}] */
	private void describe(JsonNode command, ObjectNode answer) throws Exception {
		TopicDescription topic = topic(command.get("topic").asText());
		ArrayNode partitions = answer.putArray("partitions");

		answer.put("id", topic.topicId().toString());
		for (TopicPartitionInfo info : topic.partitions()) {
			ObjectNode partition = partitions.addObject();
			partition.put("leader", info.leader() == null ? -1 : info.leader().id());
			for (Node node : info.replicas())
				partition.withArray("replicas").add(node.id());
			for (Node node : info.isr())
				partition.withArray("isr").add(node.id());
		}
	}

	/* deny: "principal", "group": it may not read as this group; "permit": 1 takes that back */
	private void deny(JsonNode command) throws Exception {
		AclBinding rule = new AclBinding(
				new ResourcePattern(ResourceType.GROUP, command.get("group").asText(), PatternType.LITERAL),
				new AccessControlEntry(command.get("principal").asText(), "*", AclOperation.READ, AclPermissionType.DENY));

		if (command.has("permit"))
			admin.deleteAcls(List.of(rule.toFilter())).all().get();
		else
			admin.createAcls(List.of(rule)).all().get();
	}

	/* ends: "topic"; gives "low", "committed" and "end" {"partition": offset} */
	private void ends(JsonNode command, ObjectNode answer) throws Exception {
		String name = command.get("topic").asText();
		int count = topic(name).partitions().size();

		offsets(name, count, OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED, answer.putObject("low"));
		offsets(name, count, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED, answer.putObject("committed"));
		offsets(name, count, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED, answer.putObject("end"));
	}

	private void offsets(String name, int count, OffsetSpec spec, IsolationLevel level, ObjectNode result) throws Exception {
		Map<TopicPartition, OffsetSpec> wanted = new HashMap<>();
		for (int p = 0; p < count; p++)
			wanted.put(new TopicPartition(name, p), spec);
		for (Map.Entry<TopicPartition, ListOffsetsResult.ListOffsetsResultInfo> e :
				admin.listOffsets(wanted, new ListOffsetsOptions(level)).all().get().entrySet())
			result.put(String.valueOf(e.getKey().partition()), e.getValue().offset());
	}

	/* user: "name", "password" of SCRAM-SHA-256 and SCRAM-SHA-512 */
	private void user(JsonNode command) throws Exception {
		String name = command.get("name").asText();
		byte[] password = command.get("password").asText().getBytes(StandardCharsets.UTF_8);

		for (ScramMechanism mechanism : List.of(ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512))
			admin.alterUserScramCredentials(List.of(
					new UserScramCredentialUpsertion(name, new ScramCredentialInfo(mechanism, 4096), password))).all().get();
	}
}
