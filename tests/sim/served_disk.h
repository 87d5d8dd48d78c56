#pragma once

#include <bit>
#include <memory>
#include <utility>
#include <vector>

#include "apps/target/vfio_user_transport.h"
#include "drivers/block.h"
#include "drivers/vfio_user/server.h"

namespace runnel::sim {

/// A disk as namespace 1 of an NVMe controller behind a vfio-user server, for one client.
struct served_disk {
  served_disk(block_device& disk, std::uint32_t depth) {
    system.nqn = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-0000-0000-000000000001";
    system.serial = "1";
    system.firmware = "1";
    system.add(disk, {});
    target::namespace_path& path = paths.emplace_back();
    path.queue = std::move(*disk.make_queue(depth));
    path.block_count = disk.info().block_count;
    path.block_shift = static_cast<std::uint32_t>(std::countr_zero(disk.info().block_bytes));
    endpoint = std::make_unique<target::vfio_user_endpoint>(
        system, paths, std::vector<block_device*>{}, target::endpoint_options{});
    server = std::move(*vfio_user::server::create(*endpoint, {}));
    endpoint->answer_through(*server);
  }

  target::subsystem system;
  std::vector<target::namespace_path> paths;
  std::unique_ptr<target::vfio_user_endpoint> endpoint;
  std::unique_ptr<vfio_user::server> server;
};

}  // namespace runnel::sim
