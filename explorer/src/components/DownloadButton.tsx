interface DownloadButtonProps {
  label: string;
  fileName: string;
  /** Called when it is asked for. */
  text: () => string;
}

/** Saves a text that the page has as a file. */
export function DownloadButton({ label, fileName, text }: DownloadButtonProps) {
  const save = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text()]));
    link.download = fileName;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  return (
    <button type="button" onClick={save}>
      {label}
    </button>
  );
}
