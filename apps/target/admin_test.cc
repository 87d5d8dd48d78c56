// Goal: every admin command that drivers send gets the answer of the specification, and every wrong
// one its status, on both block sizes.
// Method: a fake host executes one command at a time; tables of wrong ones.

#include "apps/target/admin.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string_view>

#include "apps/target/fake_driver.h"
#include "drivers/nvme/identify.h"
#include "drivers/nvme/spec_logs.h"

namespace runnel::target {
namespace {

using fake::machine;
using nvme::admin_opcode;
using nvme::feature;
using nvme::identify_cns;
using nvme::status_code;
using nvme::submission_entry;

submission_entry identify(identify_cns what, std::uint32_t nsid) {
  submission_entry command =
      machine::order(admin_opcode::identify, static_cast<std::uint32_t>(what));
  command.nsid = nsid;
  return command;
}
submission_entry log(nvme::log_page what, std::uint32_t bytes, std::uint64_t offset = 0) {
  submission_entry command = machine::order(
      admin_opcode::get_log_page, static_cast<std::uint32_t>(what) | (bytes / 4 - 1) << 16U,
      (bytes / 4 - 1) >> 16U);
  command.nsid = nvme::nsid_all;
  command.cdw12 = static_cast<std::uint32_t>(offset);
  command.cdw13 = static_cast<std::uint32_t>(offset >> 32U);
  return command;
}
submission_entry set(feature which, std::uint32_t value) {
  return machine::order(admin_opcode::set_features, static_cast<std::uint32_t>(which), value);
}
submission_entry get(feature which, std::uint32_t cdw11 = 0) {
  return machine::order(admin_opcode::get_features, static_cast<std::uint32_t>(which), cdw11);
}

class Admin : public testing::TestWithParam<std::uint32_t> {
 protected:
  Admin() : host{{.block_bytes = GetParam(), .block_count = 1000}} { host.enable(); }

  template <class Page>
  Page data() {
    Page page;
    std::memcpy(&page, host.ram.at(machine::data), sizeof page);
    return page;
  }
  std::uint32_t result(const submission_entry& command) {
    const auto answer = host.execute(command);
    EXPECT_TRUE(answer && nvme::status_of(answer->status_and_phase) == 0);
    return answer ? static_cast<std::uint32_t>(answer->command_specific) : 0;
  }

  machine host;
};
INSTANTIATE_TEST_SUITE_P(BlockBytes, Admin, testing::Values(512, 4096));

TEST_P(Admin, IdentifiesTheController) {
  ASSERT_EQ(host.execute_status(identify(identify_cns::controller, 0)), status_code::success);
  const auto page = data<nvme::identify_controller>();
  EXPECT_EQ(page.cntlid, 7);
  EXPECT_EQ(page.ver, host.read<std::uint32_t>(8));
  EXPECT_EQ(4096U << page.mdts, 128U * 1024U);
  EXPECT_EQ(page.nn, 1U);
  EXPECT_EQ(page.sqes, 0x66);
  EXPECT_EQ(page.cqes, 0x44);
  EXPECT_EQ(page.vwc & 1, 1);
  EXPECT_EQ(std::string_view(page.sn.data(), 20), "S1                  ");
  EXPECT_STREQ(page.subnqn.data(), host.system.nqn.c_str());
}

TEST_P(Admin, IdentifiesTheNamespaceAndItsIds) {
  ASSERT_EQ(host.execute_status(identify(identify_cns::namespace_nvm, 1)), status_code::success);
  const auto page = data<nvme::identify_namespace>();
  EXPECT_EQ(page.nsze, 1000U);
  EXPECT_EQ(1U << page.lbaf[page.format_index()].lbads, GetParam());

  ASSERT_EQ(host.execute_status(identify(identify_cns::namespace_descriptors, 1)),
            status_code::success);
  const auto ids = data<std::array<std::uint8_t, 64>>();
  EXPECT_EQ(ids[0], 1);  // EUI-64
  EXPECT_EQ(ids[1], 8);
  EXPECT_EQ(ids[12], 2);  // NGUID
  EXPECT_EQ(ids[32], 3);  // UUID
  EXPECT_EQ(ids[52], 0);  // the end
  EXPECT_EQ(std::memcmp(&ids[4], page.eui64.data(), 8), 0);
}

TEST_P(Admin, ListsActiveNamespacesAboveTheOneAskedFor) {
  ASSERT_EQ(host.execute_status(identify(identify_cns::active_namespaces, 0)),
            status_code::success);
  EXPECT_EQ(data<nvme::namespace_list>()[0], 1U);
  EXPECT_EQ(data<nvme::namespace_list>()[1], 0U);
  ASSERT_EQ(host.execute_status(identify(identify_cns::active_namespaces, 1)),
            status_code::success);
  EXPECT_EQ(data<nvme::namespace_list>()[0], 0U);
}

TEST_P(Admin, DataMayBeginInsideAPage) {
  std::memset(host.ram.at(machine::data), 0, 0x4000);
  submission_entry command = identify(identify_cns::controller, 0);
  command.prp1 = machine::data + 0xc00;
  command.prp2 = machine::data + 0x3000;
  ASSERT_EQ(host.execute_status(command), status_code::success);
  nvme::identify_controller page;
  std::memcpy(&page, host.ram.at(machine::data + 0xc00), 0x400);
  std::memcpy(reinterpret_cast<std::byte*>(&page) + 0x400, host.ram.at(machine::data + 0x3000),
              0xc00);
  EXPECT_EQ(page.cntlid, 7);
  EXPECT_STREQ(page.subnqn.data(), host.system.nqn.c_str());
}

TEST_P(Admin, WrongCommandsAreRefused) {
  const auto with = [](submission_entry command, auto change) {
    change(command);
    return command;
  };
  struct row {
    const char* what;
    submission_entry command;
    status_code expected;
  };
  const status_code field = status_code::invalid_field;
  const status_code space = status_code::invalid_namespace_or_format;
  for (const row& each : {
           row{"namespace 0", identify(identify_cns::namespace_nvm, 0), space},
           row{"namespace 2", identify(identify_cns::namespace_nvm, 2), space},
           row{"ids of namespace 2", identify(identify_cns::namespace_descriptors, 2), space},
           row{"list above the last id", identify(identify_cns::active_namespaces, 0xfffffffe),
               space},
           row{"CNS ff", identify(static_cast<identify_cns>(0xff), 0), field},
           row{"a page nowhere",
               with(identify(identify_cns::controller, 0), [](auto& c) { c.prp1 = 0; }),
               status_code::data_transfer_error},
           row{"an SGL",
               with(identify(identify_cns::controller, 0), [](auto& c) { c.flags = 0x40; }), field},
           row{"keep alive", machine::order(admin_opcode::keep_alive), status_code::invalid_opcode},
           row{"format", machine::order(admin_opcode::format_nvm), status_code::invalid_opcode},
           row{"doorbell buffers", machine::order(admin_opcode::doorbell_buffer_config),
               status_code::invalid_opcode},
           row{"an unknown log", log(static_cast<nvme::log_page>(0x70), 512),
               status_code::invalid_log_page},
           row{"the health of one namespace",
               with(log(nvme::log_page::health_information, 512), [](auto& c) { c.nsid = 1; }),
               field},
           row{"a log beyond its end", log(nvme::log_page::health_information, 512, 516), field},
           row{"an odd log offset", log(nvme::log_page::health_information, 512, 2), field},
           row{"a log of 16 GiB",
               with(log(nvme::log_page::health_information, 512),
                    [](auto& c) { c.cdw11 = 0xffff; }),
               field},
           row{"feature 0", get(static_cast<feature>(0)), field},
           row{"feature 80", get(feature::software_progress), field},
           row{"saving", machine::order(admin_opcode::set_features, nvme::feature_save | 1U),
               status_code::feature_not_saveable},
           row{"65536 queues", set(feature::number_of_queues, 0xffff), field},
           row{"a vector that is not there", set(feature::interrupt_vector, 128), field},
           row{"power state 1", set(feature::power_management, 1), field},
           row{"a sensor that is not there", set(feature::temperature_threshold, 1U << 16U), field},
       }) {
    EXPECT_EQ(host.execute_status(each.command), each.expected) << each.what;
  }
}

TEST_P(Admin, QueuesThatCannotBeAreNotMade) {
  const std::uint64_t cq = machine::io_cq;
  const std::uint64_t sq = machine::io_sq;
  ASSERT_EQ(host.execute_status(machine::create_cq(1, 8, cq)), status_code::success);
  ASSERT_EQ(host.execute_status(machine::create_sq(1, 8, sq, 1)), status_code::success);
  struct row {
    const char* what;
    submission_entry command;
    status_code expected;
  };
  const auto remove_sq = [](std::uint16_t id) {
    return machine::delete_queue(admin_opcode::delete_io_sq, id);
  };
  const auto remove_cq = [](std::uint16_t id) {
    return machine::delete_queue(admin_opcode::delete_io_cq, id);
  };
  const status_code id = status_code::invalid_queue_id;
  const status_code size = status_code::invalid_queue_size;
  for (const row& each : {
           row{"CQ 0", machine::create_cq(0, 8, cq), id},
           row{"CQ 1 again", machine::create_cq(1, 8, cq), id},
           row{"CQ 128", machine::create_cq(128, 8, cq), id},
           row{"CQ 65535", machine::create_cq(0xffff, 8, cq), id},
           row{"CQ of one entry", machine::create_cq(2, 1, cq), size},
           row{"CQ over MQES", machine::create_cq(2, 1025, cq), size},
           row{"CQ of 65536", machine::create_cq(2, 65536, cq), size},
           row{"CQ in pieces", machine::create_cq(2, 8, cq, 0), status_code::invalid_field},
           row{"CQ inside a page", machine::create_cq(2, 8, cq + 16),
               status_code::prp_offset_invalid},
           row{"CQ nowhere", machine::create_cq(2, 8, 0x1000), status_code::data_transfer_error},
           row{"CQ with vector 128", machine::create_cq(2, 8, cq, 3 | 128U << 16U),
               status_code::invalid_interrupt_vector},
           row{"SQ 0", machine::create_sq(0, 8, sq, 1), id},
           row{"SQ 1 again", machine::create_sq(1, 8, sq, 1), id},
           row{"SQ without CQ", machine::create_sq(2, 8, sq, 2), status_code::cq_invalid},
           row{"SQ on the admin CQ", machine::create_sq(2, 8, sq, 0), id},
           row{"SQ on CQ 500", machine::create_sq(2, 8, sq, 500), id},
           row{"SQ of one entry", machine::create_sq(2, 1, sq, 1), size},
           row{"SQ in pieces", machine::create_sq(2, 8, sq, 1, 0), status_code::invalid_field},
           row{"SQ nowhere", machine::create_sq(2, 8, 0x1000, 1), status_code::data_transfer_error},
           row{"delete SQ 0", remove_sq(0), id},
           row{"delete SQ 2", remove_sq(2), id},
           row{"delete SQ 60000", remove_sq(60000), id},
           row{"delete CQ 0", remove_cq(0), id},
           row{"delete CQ 3", remove_cq(3), id},
           row{"delete CQ in use", remove_cq(1), status_code::invalid_queue_deletion},
           row{"delete SQ 1", remove_sq(1), status_code::success},
           row{"delete CQ 1", remove_cq(1), status_code::success},
           row{"delete CQ 1 again", remove_cq(1), id},
       }) {
    EXPECT_EQ(host.execute_status(each.command), each.expected) << each.what;
  }
}

TEST_P(Admin, IoQueuesNeedTheEntrySizesInCc) {
  host.write(nvme::reg::cc, std::uint32_t{0});
  host.set_admin_registers();
  host.write(nvme::reg::cc, nvme::cc_enable);
  ASSERT_EQ(host.status(), nvme::csts_ready);
  host.admin = {.entries = 16, .submission = machine::admin_sq, .completion = machine::admin_cq};
  std::memset(host.ram.at(machine::admin_cq), 0, 256);
  EXPECT_EQ(host.execute_status(machine::create_cq(1, 8, machine::io_cq)),
            status_code::invalid_queue_size);
}

TEST_P(Admin, TheNumberOfQueuesIsGrantedOnceAndThenFixed) {
  EXPECT_EQ(result(set(feature::number_of_queues, nvme::number_of_queues(400, 500))),
            nvme::number_of_queues(127, 127));
  EXPECT_EQ(result(set(feature::number_of_queues, nvme::number_of_queues(2, 2))),
            nvme::number_of_queues(2, 2));
  EXPECT_EQ(result(get(feature::number_of_queues)), nvme::number_of_queues(2, 2));
  EXPECT_EQ(host.execute_status(machine::create_cq(3, 8, machine::io_cq)),
            status_code::invalid_queue_id);
  EXPECT_EQ(host.execute_status(machine::create_cq(2, 8, machine::io_cq)), status_code::success);
  EXPECT_EQ(host.execute_status(set(feature::number_of_queues, 0)),
            status_code::command_sequence_error);
}

TEST_P(Admin, FeaturesKeepTheirValues) {
  EXPECT_EQ(result(get(feature::temperature_threshold)), 343U);
  EXPECT_EQ(result(set(feature::temperature_threshold, 1U << 20U | 270U)), 0U);
  EXPECT_EQ(result(get(feature::temperature_threshold)), 343U);
  EXPECT_EQ(result(get(feature::temperature_threshold, 1U << 20U)), 270U);
  result(set(feature::interrupt_vector, 1U << 16U | 70U));
  EXPECT_EQ(result(get(feature::interrupt_vector, 70)), 1U << 16U | 70U);
  EXPECT_EQ(result(get(feature::interrupt_vector, 71)), 71U);
  for (const feature which :
       {feature::arbitration, feature::error_recovery, feature::interrupt_coalescing,
        feature::write_atomicity, feature::async_event_configuration}) {
    result(set(which, 0x55));
    EXPECT_EQ(result(get(which)), 0x55U);
  }
}

TEST_P(Admin, SwitchingTheWriteCacheOffForcesEveryWrite) {
  EXPECT_EQ(result(get(feature::volatile_write_cache)), 1U);
  fake::host_queue queue = host.make_pair(1, 8);
  result(set(feature::volatile_write_cache, 0));
  host.submit(queue, machine::io(nvme::io_opcode::write, 0, 1, machine::data));
  host.poll();
  EXPECT_EQ(host.drive.forced_writes, 1U);
  result(set(feature::volatile_write_cache, 1));
  host.submit(queue, machine::io(nvme::io_opcode::write, 0, 1, machine::data));
  host.poll();
  EXPECT_EQ(host.drive.forced_writes, 1U);
}

TEST_P(Admin, LogsAreReadWholeOrInPart) {
  fake::host_queue queue = host.make_pair(1, 8);
  host.submit(queue, machine::io(nvme::io_opcode::read, 0, 1, machine::data));
  host.poll();
  ASSERT_EQ(host.execute_status(log(nvme::log_page::health_information, 512)),
            status_code::success);
  EXPECT_EQ(data<nvme::health_log>().host_reads.low, 1U);
  EXPECT_EQ(data<nvme::health_log>().data_units_read.low, 1U);

  std::memset(host.ram.at(machine::data), 0xee, 4096);
  ASSERT_EQ(host.execute_status(log(nvme::log_page::firmware_slots, 4096, 8)),
            status_code::success);
  EXPECT_EQ(std::memcmp(host.ram.at(machine::data), "1.0     ", 8), 0);
  EXPECT_EQ(host.ram.at(machine::data)[504], std::byte{0xee});  // nothing beyond the log
}

TEST_P(Admin, EventRequestsAreHeldUpToTheLimit) {
  for (std::size_t i = 0; i < event_requests_max; ++i) {
    EXPECT_FALSE(host.execute(machine::order(admin_opcode::async_event_request)).has_value());
  }
  EXPECT_EQ(host.execute_status(machine::order(admin_opcode::async_event_request)),
            status_code::aer_limit_exceeded);
}

TEST_P(Admin, AnEventIsToldAgainOnlyAfterItsLogWasRead) {
  EXPECT_FALSE(host.execute(machine::order(admin_opcode::async_event_request)).has_value());
  EXPECT_FALSE(host.execute(machine::order(admin_opcode::async_event_request)).has_value());
  fake::host_queue queue = host.make_pair(1, 8);
  const auto misring = [&](std::uint32_t value) {
    host.set_doorbell(2U * queue.id, value);
    host.poll();
    return host.take(host.admin).has_value();
  };
  EXPECT_TRUE(misring(100));
  EXPECT_FALSE(misring(101));
  EXPECT_EQ(host.execute_status(log(nvme::log_page::error_information, 64)), status_code::success);
  EXPECT_TRUE(misring(102));
}

TEST_P(Admin, ASubmissionQueueIsDeletedWhenItsLastCommandHasEnded) {
  fake::host_queue queue = host.make_pair(1, 8);
  host.drive.how = fake::disk::mode::delayed;
  host.drive.may_finish = 0;
  host.submit(queue, machine::io(nvme::io_opcode::read, 5, 1, machine::data));
  host.poll();
  EXPECT_FALSE(host.execute(machine::delete_queue(admin_opcode::delete_io_sq, 1)).has_value());
  host.submit(queue, machine::io(nvme::io_opcode::read, 6, 1, machine::data));
  host.poll();
  EXPECT_EQ(host.drive.waiting(), 1U);  // nothing more is taken from it
  host.drive.may_finish = 8;
  host.poll();
  EXPECT_EQ(host.take(queue)->command_id, 5);
  const auto answer = host.take(host.admin);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(nvme::status_of(answer->status_and_phase), 0);
  EXPECT_EQ(host.execute_status(machine::delete_queue(admin_opcode::delete_io_cq, 1)),
            status_code::success);
}

TEST_P(Admin, AbortEndsWhatWaitsAndLeavesWhatTheDeviceHas) {
  const auto abort = [&](std::uint16_t queue, std::uint32_t id) {
    return result(machine::order(admin_opcode::abort, queue | id << 16U)) & nvme::abort_not_done;
  };
  fake::host_queue queue = host.make_pair(1, 16);
  host.drive.how = fake::disk::mode::delayed;
  host.drive.may_finish = 0;
  host.drive.room = 1;
  for (std::uint16_t i = 0; i < 12; ++i) {  // 0 goes to the device, which has no room for more
    host.submit(queue, machine::io(nvme::io_opcode::read, i, 1, machine::data));
  }
  host.poll();
  EXPECT_EQ(abort(1, 0), 1U);   // the device has it
  EXPECT_EQ(abort(1, 3), 0U);   // in the middle of those that wait
  EXPECT_EQ(abort(1, 1), 0U);   // the next
  EXPECT_EQ(abort(1, 1), 1U);   // it is no more
  EXPECT_EQ(abort(1, 11), 0U);  // the last
  EXPECT_EQ(abort(1, 10), 0U);
  EXPECT_EQ(abort(1, 9), 0U);
  EXPECT_EQ(abort(1, 8), 1U);    // one queue remembers four
  EXPECT_EQ(abort(1, 500), 1U);  // no such command
  EXPECT_EQ(abort(2, 1), 1U);    // no such queue
  EXPECT_EQ(abort(60000, 1), 1U);
  for (const int id : {3, 1, 11, 10, 9}) {
    const auto answer = host.take(queue);
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->command_id, id);
    EXPECT_EQ(nvme::status_of(answer->status_and_phase),
              static_cast<std::uint16_t>(status_code::abort_requested));
  }
  host.drive.room = 100;
  host.drive.may_finish = 100;
  host.poll(40);
  for (const int id : {0, 2, 4, 5, 6, 7, 8}) {
    const auto answer = host.take(queue);
    ASSERT_TRUE(answer.has_value()) << id;
    EXPECT_EQ(answer->command_id, id);
    EXPECT_EQ(nvme::status_of(answer->status_and_phase), 0);
  }
  EXPECT_FALSE(host.take(queue).has_value());
  EXPECT_EQ(host.nvme->state().submission_queues[1].head, 12);
}

TEST_P(Admin, EventRequestsCanBeAborted) {
  submission_entry request = machine::order(admin_opcode::async_event_request);
  request.command_id = 77;
  host.submit(host.admin, request);
  host.poll();
  submission_entry abort = machine::order(admin_opcode::abort, 77U << 16U);
  abort.command_id = 78;
  host.submit(host.admin, abort);
  host.poll();
  const auto ended = host.take(host.admin);
  ASSERT_TRUE(ended.has_value());
  EXPECT_EQ(ended->command_id, 77);
  EXPECT_EQ(nvme::status_of(ended->status_and_phase),
            static_cast<std::uint16_t>(status_code::abort_requested));
  const auto answer = host.take(host.admin);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->command_id, 78);
  EXPECT_EQ(answer->command_specific & 1U, 0U);
}

TEST_P(Admin, EveryOpcodeAndRandomFieldGetsExactlyOneAnswerOrIsHeld) {
  std::uint64_t seed = 99;  // fixed
  const auto random = [&] {
    seed = seed * 6364136223846793005 + 1442695040888963407;
    return static_cast<std::uint32_t>(seed >> 33U);
  };
  unsigned held = 0;
  for (unsigned i = 0; i < 8192; ++i) {
    submission_entry command =
        machine::order(static_cast<admin_opcode>(i % 256), random(), random());
    if (i % 2 == 0) {
      command.cdw10 &= 0x0003'00ff;
    }
    command.nsid = random() % 4;
    command.cdw12 = random() % 600;
    if (command.opcode == static_cast<std::uint8_t>(admin_opcode::create_io_cq)) {
      command.cdw11 &= ~2U;  // nobody reads its answers, so no interrupts either
    }
    held += host.execute(command) ? 0U : 1U;
  }
  EXPECT_EQ(held, event_requests_max);
}

TEST(NamespaceIdentity, IsTheSameEachTimeAndDifferentForEachNamespace) {
  const namespace_identity one = derive_identity("nqn", 1, "ram:1m");
  EXPECT_EQ(one.uuid, derive_identity("nqn", 1, "ram:1m").uuid);
  EXPECT_NE(one.uuid, derive_identity("nqn", 2, "ram:1m").uuid);
  EXPECT_NE(one.nguid, derive_identity("nqn", 1, "ram:2m").nguid);
  EXPECT_NE(one.eui64, derive_identity("nqm", 1, "ram:1m").eui64);
  EXPECT_EQ(one.uuid[6] >> 4U, 8);
  EXPECT_EQ(one.eui64[0] & 3, 2);
}

}  // namespace
}  // namespace runnel::target
