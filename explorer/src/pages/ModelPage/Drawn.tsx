import { useState } from "react";
import { Link } from "wouter";
import { Card } from "../../components/Card";
import { whole } from "../../components/numbers";
import { LayerPicker } from "../CapturePage/LayerPicker";
import type { Layer } from "../CapturePage/layers";

/** The model's layers, to choose what to capture from here. */
export function Drawn({ layers, modelId }: { layers: readonly Layer[]; modelId: string }) {
  const [chosen, setChosen] = useState<string[]>([]);
  const query = new URLSearchParams({ model: modelId, layers: chosen.join(",") });
  return (
    <Card title="Layers" aside={<span className="muted">{whole(layers.length)} modules</span>}>
      <LayerPicker multiple layers={layers} chosen={chosen} onChange={setChosen} />
      {chosen.length > 0 && (
        <p>
          <Link href={`/capture?${query}`} className="button">
            Capture these
          </Link>
        </p>
      )}
    </Card>
  );
}
