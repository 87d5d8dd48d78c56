#include "drivers/vfio/cdev.h"

#include <fcntl.h>

#include <cerrno>
#include <utility>

#include "drivers/vfio/open_hint.h"

namespace runnel::vfio {
namespace {

[[nodiscard]] std::string bind_hint(error what, bool has_token) {
  switch (what.code == errc::os ? static_cast<int>(what.detail) : 0) {
    case EBUSY:
      return "it is open already, by its group";
    case EACCES:
      return "it is a virtual function, and its physical function has another token";
    case EPERM:
      return iommu_hint(what);
    case EINVAL:
      return has_token ? "this kernel takes no token by a node: use its group"
                       : "it is open already, by this node";
    default:
      return {};
  }
}

/// Binds the device to the iommufd, which resets it, and has it translated. Holds both files.
class cdev_opening final : public device_opening {
 public:
  cdev_opening(unbound_device device, kernel_fd iommufd, std::uint32_t ioas)
      : device_{std::move(device)}, iommufd_{std::move(iommufd)}, ioas_{ioas} {}

  std::string object;
  std::optional<vf_token> token;

  [[nodiscard]] outcome<attached_device> open() override {
    auto bound = std::move(device_).bind(iommufd_.get(), token);
    if (!bound) {
      return fail(bound.error(), "open", object, bind_hint(bound.error(), token.has_value()));
    }
    auto attached = std::move(*bound).attach(ioas_);
    if (!attached) {
      const bool in_the_way = attached.error() == error{errc::os, EADDRINUSE};
      return fail(attached.error(), "translate for", object,
                  in_the_way ? "it reaches less than what others have mapped already: name it first"
                             : iommu_hint(attached.error()));
    }
    iommufd_.reset();
    return std::move(*attached);
  }

 private:
  unbound_device device_;
  kernel_fd iommufd_;
  std::uint32_t ioas_;
};

}  // namespace

cdev_opener::cdev_opener(syscalls& system, ioas_domain& domain, cdev_device device,
                         const kvm_vfio* kvm)
    : system_{&system},
      domain_{&domain},
      share_{domain},
      device_{std::move(device)},
      object_{"pci:" + device_.address},
      kvm_{kvm} {}

outcome<std::unique_ptr<device_opening>> cdev_opener::prepare() {
  auto node = system_->open(device_.node.c_str(), O_RDWR);
  if (!node) {
    return fail(node.error(), "open", object_,
                open_hint(node.error(), device_.node, device_.address));
  }
  auto iommufd = system_->duplicate(domain_->iommufd());
  if (!iommufd) {
    return fail(iommufd.error(), "open", object_, "raise the limit of open files: `ulimit -n`");
  }
  unbound_device device{*system_, std::move(*node)};
  if (const auto told = kvm_ == nullptr ? result<>{} : device.tell(*kvm_); !told) {
    return fail(told.error(), "tell KVM of", object_);
  }
  auto opening =
      std::make_unique<cdev_opening>(std::move(device), std::move(*iommufd), domain_->ioas());
  opening->object = object_;
  opening->token = device_.token;
  return opening;
}

}  // namespace runnel::vfio
