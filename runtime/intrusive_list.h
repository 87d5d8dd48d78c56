#pragma once

#include "mempool/base/check.h"

namespace runnel {

/// A place in one intrusive list. A type that may be in several lists has one such base per list,
/// told apart by `Tag`. Must be out of its list when it dies.
template <class Tag>
class list_hook {
 public:
  list_hook() noexcept = default;
  list_hook(const list_hook&) = delete;
  list_hook& operator=(const list_hook&) = delete;
  ~list_hook() { CHECK(!linked()); }

  [[nodiscard]] bool linked() const noexcept { return next_ != this; }

  void unlink() noexcept {
    next_->prev_ = prev_;
    prev_->next_ = next_;
    next_ = prev_ = this;
  }

 private:
  template <class T, class U>
  friend class intrusive_list;

  list_hook* next_ = this;  // a ring; a hook that is in no list is a ring of one
  list_hook* prev_ = this;
};

/// First in, first out; owns nothing and allocates nothing. @context one core
template <class T, class Tag>
class intrusive_list {
 public:
  [[nodiscard]] bool empty() const noexcept { return !head_.linked(); }
  [[nodiscard]] T& front() noexcept { return element(head_.next_); }

  void push_back(T& item) noexcept {
    list_hook<Tag>& hook = item;
    hook.prev_ = head_.prev_;
    hook.next_ = &head_;
    head_.prev_->next_ = &hook;
    head_.prev_ = &hook;
  }

  /// Null when empty.
  [[nodiscard]] T* pop_front() noexcept {
    if (empty()) {
      return nullptr;
    }
    T& item = front();
    static_cast<list_hook<Tag>&>(item).unlink();
    return &item;
  }

  /// Calls `visit` with every element, which it may unlink (that element only).
  template <class Visit>
  void for_each(Visit&& visit) {
    for (list_hook<Tag>* hook = head_.next_; hook != &head_;) {
      list_hook<Tag>* following = hook->next_;
      visit(element(hook));
      hook = following;
    }
  }

 private:
  static T& element(list_hook<Tag>* hook) noexcept { return *static_cast<T*>(hook); }

  list_hook<Tag> head_;
};

}  // namespace runnel
