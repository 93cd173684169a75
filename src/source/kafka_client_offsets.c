/*
 * kafka_client_offsets.c
 *	  Questions to the Kafka cluster for offsets.
 *
 * A broker takes up a question only after it answered the fetch before it, which
 * waits for records (fetch.wait.max.ms).  From 2.3 on librdkafka closes the
 * connection when the time given to rd_kafka_offsets_for_times is over, and with
 * it the fetches of all partitions of that broker; so those versions are asked
 * in their asynchronous way, in which nothing happens to a late answer.
 *
 * Invariant: every question ends in bounded time with an answer or a reason, a
 * cancel is noticed soon, and no question ends a connection.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "source/kafka_client_internal.h"

/* pause before what was not answered is asked again */
#define PAUSE_US 20000L

/*
 * list_open returns the questions that have no answer yet; the caller releases
 * the list.
 */
static rd_kafka_topic_partition_list_t *
list_open(const LhKafkaQuestion *questions, int count)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(count);

	for (int i = 0; i < count; i++)
	{
		if (questions[i].unanswered)
			rd_kafka_topic_partition_list_add(list, questions[i].topic,
											  questions[i].partition)->offset = questions[i].offset;
	}
	return list;
}

#if RD_KAFKA_VERSION >= 0x020300ff

/* a leader that says nothing for this long leaves its partitions unanswered ... */
#define LEADER_LIMIT_MS 3000

/* ... and may have been replaced after this long */
#define REPEAT_MS 1000

/*
 * send_questions asks what is open; the answer comes to the queue.
 */
static void
send_questions(LhKafka *kafka, rd_kafka_queue_t *queue, const LhKafkaQuestion *questions, int count,
			   TimestampTz deadline)
{
	rd_kafka_topic_partition_list_t *list = list_open(questions, count);
	rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(kafka->rk, RD_KAFKA_ADMIN_OP_LISTOFFSETS);
	long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
	rd_kafka_error_t *error;
	char		message[512];

	error = rd_kafka_AdminOptions_set_isolation_level(options, RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED);
	if (error != NULL)
		rd_kafka_error_destroy(error);
	rd_kafka_AdminOptions_set_request_timeout(options, (int) Min(Max(left, 1), LEADER_LIMIT_MS),
											  message, sizeof(message));
	rd_kafka_ListOffsets(kafka->rk, list, options, queue);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_topic_partition_list_destroy(list);
}

/*
 * read_answer takes over one answer, which may be to a question that was asked
 * again since, and returns how many questions it answers; *worst is the error of
 * one that it does not.
 */
static int
read_answer(rd_kafka_event_t *event, LhKafkaQuestion *questions, int count, rd_kafka_resp_err_t *worst)
{
	const rd_kafka_ListOffsets_result_t *result = rd_kafka_event_ListOffsets_result(event);
	const rd_kafka_ListOffsetsResultInfo_t **infos = NULL;
	size_t		info_count = 0;
	int			answered = 0;
	int			q = 0;

	if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__NOENT)
		*worst = RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
	if (result != NULL && rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR)
		infos = rd_kafka_ListOffsets_result_infos(result, &info_count);
	for (size_t i = 0; i < info_count; i++)
	{
		const rd_kafka_topic_partition_t *answer = rd_kafka_ListOffsetsResultInfo_topic_partition(infos[i]);
		int			passed = 0;

		/* the order is that of the questions, some of which may be missing */
		while (passed < count && (questions[q].partition != answer->partition ||
								  strcmp(questions[q].topic, answer->topic) != 0))
		{
			q = (q + 1) % count;
			passed++;
		}
		if (passed == count || !questions[q].unanswered)
			continue;
		if (answer->err != RD_KAFKA_RESP_ERR_NO_ERROR)
			*worst = answer->err;
		/* its leader said nothing */
		else if (answer->offset != RD_KAFKA_OFFSET_INVALID)
		{
			questions[q].offset = answer->offset;
			questions[q].unanswered = false;
			answered++;
		}
	}
	return answered;
}

/*
 * ask_queue asks until all is answered or the time is over; returns how many
 * questions were answered.
 */
static int
ask_queue(LhKafka *kafka, rd_kafka_queue_t *queue, LhKafkaQuestion *questions, int count,
		  TimestampTz deadline, rd_kafka_resp_err_t *worst)
{
	TimestampTz asked = 0;
	bool		open = false;
	int			answered = 0;
	int			slice = 100;
	int			wait;

	while (answered < count && !kafka->refused && (wait = lh_kafka_slice(deadline, &slice)) > 0)
	{
		rd_kafka_event_t *event;

		if (!open || TimestampDifferenceExceeds(asked, GetCurrentTimestamp(), REPEAT_MS))
		{
			/* leaders may have changed, and must be known when it is asked for them */
			if (asked != 0 && !lh_kafka_learn_leaders(kafka, deadline))
				break;
			send_questions(kafka, queue, questions, count, deadline);
			asked = GetCurrentTimestamp();
			open = true;
		}
		event = rd_kafka_queue_poll(queue, wait);
		rd_kafka_poll(kafka->rk, 0);
		if (event == NULL)
			continue;
		answered += read_answer(event, questions, count, worst);
		rd_kafka_event_destroy(event);
		open = false;
		if (answered < count)
			pg_usleep(PAUSE_US);
	}
	return answered;
}

static int
ask_offsets(LhKafka *kafka, LhKafkaQuestion *questions, int count, TimestampTz deadline,
			rd_kafka_resp_err_t *worst)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(kafka->rk);
	int			answered = 0;

	PG_TRY();
	{
		answered = ask_queue(kafka, queue, questions, count, deadline, worst);
	}
	PG_FINALLY();
	{
		/* an answer that comes later is dropped with it */
		rd_kafka_queue_destroy(queue);
	}
	PG_END_TRY();
	return answered;
}

#else

/*
 * ask_once asks once and returns how many questions were answered; *worst is the
 * error of one that was not.
 */
static int
ask_once(LhKafka *kafka, LhKafkaQuestion *questions, int count, int wait,
		 rd_kafka_resp_err_t *worst)
{
	rd_kafka_topic_partition_list_t *list = list_open(questions, count);
	rd_kafka_resp_err_t err;
	int			answered = 0;

	err = rd_kafka_offsets_for_times(kafka->rk, list, wait);
	rd_kafka_poll(kafka->rk, 0);
	for (int i = 0, l = 0; i < count; i++)
	{
		rd_kafka_topic_partition_t *answer;

		if (!questions[i].unanswered)
			continue;
		answer = &list->elems[l++];
		/* the list's own error means that some were not reached in time */
		if (answer->err != RD_KAFKA_RESP_ERR_NO_ERROR)
			*worst = answer->err;
		else if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			questions[i].offset = answer->offset;
			questions[i].unanswered = false;
			answered++;
		}
	}
	rd_kafka_topic_partition_list_destroy(list);
	return answered;
}

static int
ask_offsets(LhKafka *kafka, LhKafkaQuestion *questions, int count, TimestampTz deadline,
			rd_kafka_resp_err_t *worst)
{
	int			answered = 0;
	int			slice = 100;
	int			wait;

	while (answered < count && !kafka->refused && (wait = lh_kafka_slice(deadline, &slice)) > 0)
	{
		answered += ask_once(kafka, questions, count, wait, worst);
		if (answered < count)
			pg_usleep(PAUSE_US);
	}
	return answered;
}

#endif

/*
 * lh_kafka_offsets asks for many offsets at once; see the header.
 */
bool
lh_kafka_offsets(LhKafka *kafka, LhKafkaQuestion *questions, int count,
				 int timeout_ms, LhError *error)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	rd_kafka_resp_err_t worst = RD_KAFKA_RESP_ERR_NO_ERROR;
	int			answered;

	error->sqlstate = 0;
	for (int i = 0; i < count; i++)
		questions[i].unanswered = true;
	answered = ask_offsets(kafka, questions, count, deadline, &worst);
	if (answered > 0)
		lh_kafka_heard(kafka);
	if (answered == count)
		return true;
	if (worst != RD_KAFKA_RESP_ERR_NO_ERROR)
		lh_kafka_topic_error(worst, error);
	else
		lh_kafka_connection_error(kafka, error);
	return answered > 0;
}
